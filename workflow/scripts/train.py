"""Train the runs of a job, one after another."""

from pathlib import Path

from job import job, log_into
from leased import leased, reported

with job(snakemake) as log:  # noqa: F821
    from rangefinder import finished, records

    settings, params = snakemake.config, snakemake.params  # noqa: F821
    specs, logs = getattr(params, "specs", None) or [params.spec], snakemake.log  # noqa: F821
    study_folder = Path(logs[0]).parents[2]
    data_folder = Path(snakemake.input.data[0]).parent  # noqa: F821
    range_file = snakemake.input.get("lr_range")  # noqa: F821
    lr_range = records.read_range(range_file) if range_file else None
    left = []
    for number, spec in enumerate(specs):
        with log_into(logs[number]):
            if finished.take(study_folder, spec, lr_range, data_folder):
                log.info("the run was finished before, and its record is kept")
            else:
                left.append(number)
    if left:
        with leased(snakemake, logs[left[0]], specs[left[0]]) as (clocks, gpus, report):  # noqa: F821
            from rangefinder import in_turn

            in_turn.train(
                [specs[number] for number in left],
                study_folder=study_folder,
                lr_range=lr_range,
                data_folder=data_folder,
                leased=gpus,
                clocks=clocks,
                report=report,
                log_into=log_into,
                reported=reported,
                kept=len(specs) > 1,
                checkpoint_minutes=settings["checkpoint_minutes"],
                checkpoint_epochs=settings["checkpoint_epochs"],
            )
    finished.forget(study_folder, [spec["run"] for spec in specs])
