"""Train short runs at the LRs that every rule found in a range test, with one seed."""

from pathlib import Path

from job import job
from leased import leased

with job(snakemake), leased(snakemake) as (clocks, gpus, report):  # noqa: F821
    from rangefinder import confirmation, records

    confirmation.run(
        snakemake.params.spec,  # noqa: F821
        lr_range=records.read_range(snakemake.input.range),  # noqa: F821
        data_folder=Path(snakemake.input.data[0]).parent,  # noqa: F821
        folder=Path(snakemake.output.confirmation).parent,  # noqa: F821
        checkpoint_folder=Path(snakemake.output.confirmation).parents[4] / "checkpoints",  # noqa: F821
        leased=gpus,
        clocks=clocks,
        report=report,
        checkpoint_minutes=snakemake.config["checkpoint_minutes"],  # noqa: F821
    )
