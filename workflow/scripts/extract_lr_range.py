"""Extract the LR range from the sweeps of all seeds."""

from pathlib import Path

from job import job

with job(snakemake):  # noqa: F821
    from rangefinder import lr_range, records

    sweeps = [records.read_sweep(Path(file).parent) for file in snakemake.input.sweeps]  # noqa: F821
    records.write_json(snakemake.output.range, lr_range.record(sweeps))  # noqa: F821
