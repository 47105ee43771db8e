"""Train one run."""

from pathlib import Path

from job import job
from leased import leased

with job(snakemake), leased(snakemake) as (clocks, gpus, report):  # noqa: F821
    from rangefinder import records, training

    range_file = snakemake.input.get("lr_range")  # noqa: F821
    training.run(
        snakemake.params.spec,  # noqa: F821
        lr_range=records.read_json(range_file, "range") if range_file else None,
        data_folder=Path(snakemake.input.data[0]).parent,  # noqa: F821
        folder=Path(snakemake.output.run).parent,  # noqa: F821
        checkpoint_folder=Path(snakemake.output.run).parents[2] / "checkpoints",  # noqa: F821
        notes_folder=Path(snakemake.output.run).parents[2] / "unfinished",  # noqa: F821
        leased=gpus,
        clocks=clocks,
        report=report,
        checkpoint_minutes=snakemake.config["checkpoint_minutes"],  # noqa: F821
        checkpoint_epochs=snakemake.config["checkpoint_epochs"],  # noqa: F821
    )
