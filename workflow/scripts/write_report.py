"""Render the report of a study from its records and figures."""

from pathlib import Path

from gathered import gathered
from job import job

with job(snakemake):  # noqa: F821
    from rangefinder import records

    study = gathered(snakemake)  # noqa: F821
    figures = Path(snakemake.input.figures)  # noqa: F821
    for folder in (figures, Path(snakemake.input.tables[0]).parent):  # noqa: F821
        records.read_derived(folder)  # what it shows and stands beside is what was made from the records
    templates = Path(snakemake.input.templates[0]).parent  # noqa: F821
    pages = study.report(figures, templates)
    records.write_text(snakemake.output.markdown, pages["md"])  # noqa: F821
    records.write_text(snakemake.output.html, pages["html"])  # noqa: F821
