"""Draw the figures of a study from its records."""

from pathlib import Path

from gathered import gathered
from job import job

with job(snakemake):  # noqa: F821
    from rangefinder import records

    study = gathered(snakemake, curves=True)  # noqa: F821
    records.write_derived(Path(snakemake.output.figures), study.figures())  # noqa: F821
