"""Time a few real steps of everything that a study trains."""

import os
import time
from pathlib import Path

from job import job
from leased import leased

with job(snakemake), leased(snakemake) as (clocks, gpus, report):  # noqa: F821
    from rangefinder import plan, progress, records, status, study, timing

    wall, cpu = timing.process_age(), time.process_time()
    spec, folder = snakemake.params.spec, Path(snakemake.output.timing).parent  # noqa: F821
    of_study = study.load(spec["file"], snakemake.config["trial"])  # noqa: F821
    finished = [
        entry.name for entry in status.read(folder)[1] if (entry.kind, entry.state) == ("train", "done")
    ]
    known = plan.from_records(of_study, folder, finished, timing.device_name(gpus))
    measured = timing.measure(
        plan.subjects(of_study),
        plan.sweeps(of_study),
        set(known),
        data_root=spec["data"],
        leased=gpus,
    )
    parent = [os.getppid(), progress.process_start(os.getppid())]
    start = {"wall": wall - clocks.seconds["wait"], "cpu": cpu}
    entry = measured | {"study": of_study.folder, "start_s": start, "known": known, "parent": parent}
    finished = time.clock_gettime(time.CLOCK_BOOTTIME)
    records.write_json(snakemake.output.timing, entry | {"finished": finished})  # noqa: F821
