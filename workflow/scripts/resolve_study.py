"""Write a study with every default filled in, and its run table."""

from job import job

with job(snakemake):  # noqa: F821
    from rangefinder import records, runs, study

    content = study.load(snakemake.params.file, snakemake.config["trial"]).record()  # noqa: F821
    records.write_json(snakemake.output.study, content)  # noqa: F821
    records.write_csv(snakemake.output.runs, runs.run_table(content))  # noqa: F821
