"""Make the tables of a study from its records."""

from pathlib import Path

from gathered import gathered
from job import job

with job(snakemake):  # noqa: F821
    from rangefinder import records

    study = gathered(snakemake)  # noqa: F821
    folder = Path(snakemake.output.tables[0]).parent  # noqa: F821
    records.write_derived(folder, {f"{name}.csv": text for name, text in study.tables().items()})
