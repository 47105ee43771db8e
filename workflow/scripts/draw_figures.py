"""Draw the figures of a study from its records."""

from pathlib import Path

from gathered import gathered
from job import job

with job(snakemake):  # noqa: F821
    from rangefinder import records

    study = gathered(snakemake, curves=True)  # noqa: F821
    folder = Path(snakemake.output.figures)  # noqa: F821
    for name, text in study.figures().items():
        records.write_text(folder / name, text)
