"""Write a study with every default filled in, and its run table."""

from pathlib import Path

from job import job

with job(snakemake):  # noqa: F821
    from rangefinder import collection, records, runs, study

    content = study.load(snakemake.params.file, snakemake.config["trial"]).record()  # noqa: F821
    if snakemake.input.published:  # noqa: F821
        collection.check_published(content, Path(snakemake.input.published[0]).parent)  # noqa: F821
    records.write_json(snakemake.output.study, content)  # noqa: F821
    records.write_csv(snakemake.output.runs, runs.run_table(content))  # noqa: F821
