"""Time a few real steps of everything that a study trains."""

from pathlib import Path

from job import job
from leased import leased

with job(snakemake), leased(snakemake) as (clocks, gpus, report):  # noqa: F821
    from rangefinder import crowding, plan, progress, records, status, study, timing

    starts = [records.read_json(file, "start") for file in snakemake.input.starts]  # noqa: F821
    start_s = timing.median([timing.start(clocks), *(entry["start_s"] for entry in starts)])
    spec, folder = snakemake.params.spec, Path(snakemake.output.timing).parent  # noqa: F821
    of_study = study.load(spec["file"], snakemake.config["trial"])  # noqa: F821
    finished = [
        entry.name for entry in status.read(folder)[1] if (entry.kind, entry.state) == ("train", "done")
    ]
    known = plan.from_records(of_study, folder, finished, timing.device_name(gpus))
    subjects = plan.subjects(of_study)
    measured = timing.measure(
        subjects, plan.sweeps(of_study), set(known), data_root=spec["data"], leased=gpus
    )
    crowded = {}
    if not gpus:
        commonest = max(plan.groups(of_study), key=lambda group: len(group.names)).subject
        crowded = crowding.factors(subjects[commonest], snakemake.params.places, spec["data"])  # noqa: F821
    entry = measured | {"study": of_study.folder, "start_s": start_s, "known": known, "crowded": crowded}
    keys = ("began", "finished", "parent")
    moments = [*({key: entry[key] for key in keys} for entry in starts), progress.moments()]
    records.write_json(snakemake.output.timing, entry | {"moments": moments})  # noqa: F821
