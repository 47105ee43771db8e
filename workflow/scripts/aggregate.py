"""Make the tables of a study from its records."""

from pathlib import Path

from gathered import gathered
from job import job

with job(snakemake):  # noqa: F821
    from rangefinder import records

    study = gathered(snakemake)  # noqa: F821
    tables = study.tables()
    for file in snakemake.output.tables:  # noqa: F821
        records.write_text(file, tables[Path(file).stem])
