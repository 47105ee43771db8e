"""Start as a job does that trains, and train nothing: what that takes, and when it began and ended."""

from job import job
from leased import leased

with job(snakemake), leased(snakemake) as (clocks, gpus, report):  # noqa: F821
    from rangefinder import progress, records, timing

    records.write_json(
        snakemake.output.start,  # noqa: F821
        {"start_s": timing.start(clocks), **progress.moments()},
    )
