"""Before any job starts: the session begins, and nothing is deleted that cannot be made again."""

import os
import re
import sys
from pathlib import Path

from rangefinder import devices, finished, prepared, records, sessions


def check_prepared_data():
    """Before Snakemake deletes the outputs of jobs that read them: data that changed after they were prepared.

    A changed file is a newer one, so that all that was made from it would go, to be made again by jobs that fail.
    """
    jobs = list(workflow.dag.needrun_jobs())
    made = {
        file for job in jobs if job.rule.name == "prepare_data" for file in job.output
    }
    for path in {
        file
        for job in jobs
        for file in job.input
        if file.startswith(DATA) and Path(file).name == "dataset.json"
    } - made:
        description = or_exit(prepared.read_description, Path(path).parent)
        or_exit(prepared.check_files, Path(path).parent, description, "full")


def check_changed_records():
    """Before Snakemake deletes what was made from them: records and tables that changed after they were written.

    As with prepared data. An LR range that somebody edited would otherwise take the finished runs with it whose
    learning rate it gave.
    """
    jobs = list(workflow.dag.needrun_jobs())
    made = {file for job in jobs for file in job.output}
    changed = {file for job in jobs for file in workflow.dag.reason(job).updated_input}
    for file in sorted(changed - made):
        or_exit(records.check, file)


def keep_finished_runs():
    """Before Snakemake deletes the outputs of jobs that train: what they may take up instead of training it again.

    A shared job is done again as a whole, be it for one run that is missing, or because the runs are divided among
    jobs in another way. An LR range or data that are made again, say because a file of theirs was damaged, most often
    come out the same, which Snakemake cannot know before. What was forced is trained again.
    """
    for job in workflow.dag.needrun_jobs():
        if not re.fullmatch("train(-.+-[0-9]+)?", job.rule.name):
            continue
        for file in job.output:
            record = Path(file)
            if record.name != "run.json":
                continue
            folder, run = record.parents[2], record.parent.name
            made_by = workflow.persistence.rule(file) or "train"
            reason = workflow.dag.reason(job)
            if reason.forced:
                finished.forget(folder, [run])
            elif record.exists() and (
                reason.updated_input_run or {job.rule.name, made_by} != {"train"}
            ):
                finished.keep(folder, run)


def tell_unwritable():
    """Say that nothing can be made in the results, which may be meant so: they are somebody else's, or finished.

    Here, since Snakemake looks at its outputs before `onstart`, and calls them write-protected one by one.
    """
    try:
        if Path(RESULTS).exists():
            records.check_writable(RESULTS)
    except InputError as error:
        print(
            f"warning: {error}; only what is finished there can be looked at",
            file=sys.stderr,
        )


# Where PuLP, which Snakemake's scheduler asks, writes down its problems: one killed meanwhile would leave its file for
# good, while this folder goes with the session. Jobs have a TMP of their own.
if WORKS or workflow.remote_exec:
    os.environ.update(TMP=str(workflow.snakemake_tmp_dir))

if WORKS:
    or_exit(
        sessions.begin,
        temporary=[workflow.snakemake_tmp_dir, workflow.sourcecache.runtime_cache_path],
    )
    tell_unwritable()
elif workflow.remote_exec:
    sessions.in_cluster()


onstart:
    or_exit(records.check_writable, RESULTS)
    if workflow.is_main_process:
        check_prepared_data()
        check_changed_records()
    if workflow.is_main_process and workflow.local_exec:
        limit = workflow.global_resources.get("gpu")
        limit = getattr(limit, "value", limit)
        print(devices.outlook(limit, config["jobs_per_gpu"]), file=sys.stderr)
    if workflow.is_main_process:
        keep_finished_runs()
