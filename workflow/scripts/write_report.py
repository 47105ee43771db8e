"""Render the report of a study from its records and figures."""

from pathlib import Path

from job import job

with job(snakemake):  # noqa: F821
    from rangefinder import collection, records

    study = collection.collect(snakemake.input.study, snakemake.input.ranges, snakemake.input.runs)  # noqa: F821
    templates = Path(snakemake.input.templates[0]).parent  # noqa: F821
    pages = study.report(Path(snakemake.input.figures), templates)  # noqa: F821
    records.write_text(snakemake.output.markdown, pages["md"])  # noqa: F821
    records.write_text(snakemake.output.html, pages["html"])  # noqa: F821
