"""Write a study's plan from what was timed, and show it."""

import statistics
from pathlib import Path

from job import job

with job(snakemake):  # noqa: F821
    from rangefinder import drawing, durations, plan, progress, records, report, shown_plan, status, study  # noqa: F401 (what light jobs load)

    now = progress.moments()
    folder = Path(snakemake.output.plan).parent  # noqa: F821
    of_study = study.load(snakemake.params.file, snakemake.config["trial"])  # noqa: F821
    timing = records.read_json(snakemake.input.timing, "timing")  # noqa: F821
    gaps = durations.gaps([*timing["moments"], now])
    between = statistics.median(gaps) if gaps else None
    done = {(job.kind, job.name) for job in status.read(folder)[1] if job.state in ("done", "diverged")}
    together = snakemake.config["runs_per_job"]  # noqa: F821
    rows = plan.rows(of_study, timing, timing["known"], done, between or 0.0, together)
    text = shown_plan.text(
        of_study,
        rows,
        timing,
        places=snakemake.params.places,  # noqa: F821
        light_s=now["finished"] - now["began"],
        between_s=between,
        ranges_left=sum(
            not (folder / f"lr_range/{name}/range.json").exists() for name in of_study.range_tests
        ),
    )
    records.write_csv(snakemake.output.table, plan.columns(rows))  # noqa: F821
    records.write_text(snakemake.output.plan, text)  # noqa: F821
    print(text)
