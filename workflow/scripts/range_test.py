"""Run one seed of an LR range test."""

from pathlib import Path

from job import job
from leased import leased

with job(snakemake), leased(snakemake) as (clocks, gpus, report):  # noqa: F821
    from rangefinder import range_test

    range_test.run(
        snakemake.params.spec,  # noqa: F821
        data_folder=Path(snakemake.input.data[0]).parent,  # noqa: F821
        folder=Path(snakemake.output.sweep).parent,  # noqa: F821
        leased=gpus,
        clocks=clocks,
        report=report,
    )
