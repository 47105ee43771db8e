"""Prepare a data set as uint8 arrays."""

from pathlib import Path

from job import job

with job(snakemake):  # noqa: F821
    from rangefinder import data

    settings = snakemake.config  # noqa: F821
    data.prepare(
        snakemake.params.spec,  # noqa: F821
        Path(snakemake.output.description).parent,  # noqa: F821
        data_dir=settings["data_dir"],
        data_mirror=settings["data_mirror"],
        download=settings["download"],
    )
