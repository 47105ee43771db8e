"""Draw the figures of a study from its records."""

from pathlib import Path

from job import job

with job(snakemake):  # noqa: F821
    from rangefinder import collection, records

    study = collection.collect(
        snakemake.input.study,  # noqa: F821
        snakemake.input.ranges,  # noqa: F821
        snakemake.input.runs,  # noqa: F821
        curves=True,
    )
    folder = Path(snakemake.output.figures)  # noqa: F821
    for name, text in study.figures().items():
        records.write_text(folder / name, text)
