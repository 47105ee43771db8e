"""Try the parts that a study takes from elsewhere, before any job that uses them."""

from pathlib import Path

from job import job

with job(snakemake):  # noqa: F821
    from rangefinder import part_checks, records

    entry = snakemake.params.combination  # noqa: F821
    part_checks.check(entry, Path(snakemake.input.data).parent, snakemake.params.file)  # noqa: F821
    records.write_json(snakemake.output.check, {"usable": entry})  # noqa: F821
