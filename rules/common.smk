"""Configuration, the studies, and the functions that rules look things up with."""

import gc
import os
import re
import sys
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace


def checkout():
    """The project's folder: this file's checkout, or what Snakemake keeps of a repository on a git host.

    For `snakefile: github(…)` it fetches files one by one as they are named, each to its place in a copy of the tree. An
    import needs the whole package, so all of it is named here, from the list that Snakemake's own clone has.
    """
    here = workflow.current_basedir
    if not hasattr(here, "hosted_repo"):
        return Path(here).parent
    listed = here.hosted_repo.repo.git.ls_tree(
        "-r", "--name-only", here.ref, "--", "workflow", "report"
    )
    for name in listed.splitlines():
        found = Path(workflow.source_path(f"../{name}"))
    return Path(str(found).removesuffix(name))


ROOT = checkout()
sys.path.insert(0, str(ROOT / "workflow/scripts"))

from rangefinder import (
    chunks,
    devices,
    finished,
    part_checks,
    parts,
    prepared,
    progress,
    records,
    runs,
    sessions,
)  # noqa: E402
from rangefinder import study as studies  # noqa: E402
from rangefinder.errors import InputError  # noqa: E402


def or_exit(function, *args, **kwargs):
    """Call a function of the engine; bad input ends Snakemake with its one line instead of a traceback."""
    try:
        return function(*args, **kwargs)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


config = or_exit(studies.load_config, config)
RESULTS = config["results"]
DATA = f"{RESULTS}/data"
STUDY_FILES = or_exit(studies.find, config["studies_dir"])
# A folder of results belongs to one study, whole or shrunk to a trial.
FOLDERS = {runs.folder(name, config["trial"]): name for name in STUDY_FILES}
# How each data set is prepared, by its key; filled by the studies that are read.
DATASETS = {}
# Whether this process is the one that runs jobs: a job's own Snakemake and a dry run leave nothing behind.
# (`workflow.dryrun` is only known once the Snakefile has been read.)
WORKS = workflow.is_main_process and not workflow.output_settings.dryrun


@cache
def study_of(folder):
    """The study whose results are in this folder."""
    study = or_exit(studies.load, STUDY_FILES[FOLDERS[folder]], config["trial"])
    DATASETS.update(study.datasets)
    if workflow.is_main_process and study.content["published"]:
        check_published(study)
    if WORKS:
        progress.write_jobs(f"{RESULTS}/{folder}", study)
    return study


def check_published(study):
    """Read what a study is compared with, before hours of training that end in it."""
    try:
        from rangefinder import (
            collection,
        )  # takes pandas: not in every job's own Snakemake
    except ImportError:  # nor everywhere where conda brings it to the rules
        return
    folder = Path(config["studies_dir"]).parent / "published"
    or_exit(collection.check_published, study.record(), folder)


# A study that is asked for is checked before any job starts.
for name in config["studies"]:
    if name not in STUDY_FILES:
        error = InputError(
            "unknown study",
            file="config",
            key="studies",
            value=name,
            allowed=sorted(STUDY_FILES),
        )
        sys.exit(f"error: {error}")
for name in {*config["studies"], *(set(sys.argv) & set(STUDY_FILES))}:
    study_of(runs.folder(name, config["trial"]))


# The graph of jobs that Snakemake builds now is hundreds of thousands of objects, of which next to none is garbage. By
# default Python's collector goes over them, Snakemake's modules and the study time and again: a fifth of the time of
# a dry run. What is there already stays until the end; the rest is looked at less often.
gc.freeze()
gc.set_threshold(10_000, 10, 10)


def dataset_of(key):
    """How a data set is prepared, by its key."""
    for folder in FOLDERS:
        if (
            key not in DATASETS
        ):  # a data set named as a target, before any study that uses it was read
            study_of(folder)
    return DATASETS[key]


def downloads():
    """Whether a study that was asked for uses data that are fetched."""
    allowed = config["download"] and not config["data_dir"]
    return allowed and any(parts.is_fetched(spec) for spec in DATASETS.values())


def data_files(key):
    """The files of a prepared data set."""
    names = [
        "dataset.json",
        *(
            f"{part}_{kind}.npy"
            for part in ("train", "test")
            for kind in ("images", "labels")
        ),
    ]
    return [f"{DATA}/{key}/{name}" for name in names]


def run_of(wildcards):
    """The run that a job trains."""
    return study_of(wildcards.study).runs[wildcards.run]


def range_test_of(wildcards):
    """The range test that a job runs or extracts from."""
    return study_of(wildcards.study).range_tests[wildcards.range_test]


def run_range(wildcards):
    """The LR range that a run's learning rate refers to, if it does."""
    name = run_of(wildcards).range_test
    return f"{RESULTS}/{wildcards.study}/lr_range/{name}/range.json" if name else []


@cache
def combinations_of(folder):
    """What has to be tried before a study's jobs, by the key of its check."""
    return part_checks.combinations(study_of(folder))


def combination_of(wildcards):
    """What one check tries."""
    return combinations_of(wildcards.study)[wildcards.combination]


def check_file(job, wildcards):
    """The check of a run or range test that uses something only a check can try."""
    job = job(wildcards)
    if not part_checks.needs_check(job.parameters):
        return []
    entry = part_checks.combination(job.parameters, job.dataset)
    return f"{RESULTS}/{wildcards.study}/checks/{part_checks.key(entry)}.json"


def train_input(wildcards):
    """What a run's training reads, by name: one function, for Snakemake asks each one anew for every run."""
    return {
        "data": data_files(run_of(wildcards).dataset),
        "lr_range": run_range(wildcards),
        "check": check_file(run_of, wildcards),
    }


def sweep_files(wildcards, name="sweep.json"):
    """The sweeps of every seed of a range test."""
    test = range_test_of(wildcards)
    return [
        f"{RESULTS}/{wildcards.study}/lr_range/{wildcards.range_test}/seed{seed}/{name}"
        for seed in test.seeds
    ]


def all_sweep_files(wildcards):
    """The sweeps of every range test of a study, each with its table."""
    return [
        f"{RESULTS}/{wildcards.study}/lr_range/{name}/seed{seed}/sweep.{kind}"
        for name, test in study_of(wildcards.study).range_tests.items()
        for seed in test.seeds
        for kind in ("json", "csv")
    ]


def range_files(wildcards):
    """Every LR range of a study."""
    return [
        f"{RESULTS}/{wildcards.study}/lr_range/{name}/range.json"
        for name in study_of(wildcards.study).range_tests
    ]


def wanted(files):
    """Records that a report is made from: all of them, or with `partial=true` those that exist."""
    return (
        [file for file in files if Path(file).exists()] if config["partial"] else files
    )


def confirmation_files(wildcards):
    """The confirmations of the range tests that ask for them."""
    return wanted(
        [
            f"{RESULTS}/{wildcards.study}/lr_range/{name}/confirmation/seed{seed}/confirmation.json"
            for name, test in study_of(wildcards.study).range_tests.items()
            for seed in (test.confirm.seeds if test.confirm else ())
        ]
    )


@cache
def wanted_runs(folder):
    """The runs that a study is reported on: all, or with `partial=true` those that have a record.

    One that is kept until the other runs of its job are done counts too: the job that makes it takes it up. Looked up
    once, so that tables, figures and report are made from the same runs.
    """
    names = study_of(folder).runs
    if config["partial"]:
        names = [run for run in names if finished.exists(f"{RESULTS}/{folder}", run)]
    return dict.fromkeys(names)


def run_files(wildcards):
    """The records of a study's runs."""
    return [
        f"{RESULTS}/{wildcards.study}/runs/{run}/run.json"
        for run in wanted_runs(wildcards.study)
    ]


def published_files(wildcards):
    """The published numbers, curves and claims that a study compares itself with, if there are any."""
    name = study_of(wildcards.study).content["published"]
    folder = Path(config["studies_dir"]).parent / "published"
    others = [folder / "curves" / f"{name}.yaml", folder / "claims.yaml"]
    return (
        [f"{folder}/{name}.csv", *(str(file) for file in others if file.exists())]
        if name
        else []
    )


def report_files(name):
    """The report of a study, by the study's name."""
    return [
        f"{RESULTS}/{runs.folder(name, config['trial'])}/report.{kind}"
        for kind in ("html", "md")
    ]


def study_results(name, wildcards=None):
    """What a study comes to, by its name: its report, and every record, table and figure that it rests on.

    Those too, for Snakemake would not miss them as long as the report is there.
    """
    folder = runs.folder(name, config["trial"])
    study_of(folder)
    study = SimpleNamespace(study=folder)
    shown = (all_sweep_files, range_files, confirmation_files, run_files)
    made = ["tables.json", *(f"tables/{table}.csv" for table in TABLES)]
    made += ["figures.json", "figures"]
    return [
        *report_files(name),
        *(f"{RESULTS}/{folder}/{file}" for file in made),
        *(file for files in shown for file in files(study)),
    ]


def study_data(wildcards):
    """Every prepared data set of a study."""
    keys = study_of(wildcards.study).datasets
    return [file for key in keys for file in data_files(key)]


def study_checks(wildcards):
    """Every check of a study's own parts."""
    return [
        f"{RESULTS}/{wildcards.study}/checks/{key}.json"
        for key in combinations_of(wildcards.study)
    ]


def plan_file(name):
    """The plan of a study, by the study's name."""
    return f"{RESULTS}/{runs.folder(name, config['trial'])}/plan.md"


def study_plan(name, wildcards):
    """`plan_file` as an input function: the study is read only when it is asked for."""
    study_of(runs.folder(name, config["trial"]))
    return plan_file(name)


def places(wildcards):
    """Numbers of jobs at once that a plan tells the duration for: one, as many as were given, as many as fit here."""
    limit = workflow.global_resources.get("gpu")
    given = getattr(limit, "value", limit)
    cores = [workflow.cores or 1, os.cpu_count()]
    fit = devices.visible()
    if fit and given != 0:
        shares = len(fit) * config["jobs_per_gpu"]
        cores = [min(count, shares) for count in cores]
        cores[0] = min(cores[0], given or shares)
    return sorted({1, *cores})


def gpus(wildcards):
    """GPUs a job asks for: one, but none where Snakemake itself runs the jobs and has no GPU.

    A cluster's submitting machine often has none, while its nodes do. Inside the cluster's job it is what that was
    given, which may be none on request (`--resources gpu=0`).
    """
    if workflow.remote_exec:
        return int(devices.given())
    return 1 if workflow.non_local_exec or gpu_is_here() else 0


def run_gpus(wildcards):
    """GPUs a training run asks for; inside a cluster's job no more than that was given."""
    count = config["gpus_per_run"] * gpus(wildcards)
    return min(count, len(devices.visible())) if workflow.remote_exec else count


def is_asked_for(folder):
    """Whether the configuration or the command line, a job's own too, names a study, a file or a job of it."""
    name = FOLDERS[folder]
    words = {word for argument in sys.argv for word in re.split("[/:]", argument)}
    jobs = (re.fullmatch("train-(.+)-[0-9]+", word) for word in words)
    return bool(
        {name, folder} & {*config["studies"], *words, *(job[1] for job in jobs if job)}
    )


def wanted_of(folder, chunk):
    """The runs of a shared job that are reported on: with `partial=true` the others are not trained along with them.

    A cluster's job finds them among the kept records, where the first Snakemake has put what is done again; if it does
    not, since they are trained anew, it trains all: what it was sent to make is among them.
    """
    there = [run for run in chunk if run.id in wanted_runs(folder)]
    return chunk if workflow.remote_exec and len(there) < 2 else there


def shared_jobs():
    """The jobs that train several runs, by the names of their rules: the study's folder and the runs."""
    most = config["runs_per_job"]
    divided = {
        f"train-{folder}-{number}": (folder, wanted_of(folder, chunk))
        for folder in (FOLDERS if most > 1 else ())
        if is_asked_for(folder)
        for number, chunk in enumerate(chunks.chunks(study_of(folder), most), 1)
    }
    return {name: job for name, job in divided.items() if len(job[1]) > 1}


def shared_minutes(runs, wildcards, attempt):
    """Minutes that a job of so many runs may take: as many times those of one."""
    return 240 * attempt * runs


def set_as_train(name):
    """Give the rule of a shared job what the command line sets for `train`."""
    if workflow.is_rule(name):  # a module's rules have other names
        settings, resources = (
            workflow.resource_settings,
            workflow.get_rule(name).resources,
        )
        resources.update(settings._parsed_overwrite_resources.get("train", {}))
        if "train" in settings._parsed_overwrite_threads:
            resources["_cores"] = settings._parsed_overwrite_threads["train"]


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


# A minute before a job's time limit SLURM tells the training itself to stop, which then writes its checkpoint. Not
# USR1 and not B:TERM: they end the job's own Snakemake first.
STOP_IN_TIME = "--signal=TERM@60"


@cache
def gpu_is_here():
    """Whether this machine shows a GPU; asked once, since it starts a program."""
    return bool(devices.visible())


if WORKS:
    sessions.begin(
        temporary=[workflow.snakemake_tmp_dir, workflow.sourcecache.runtime_cache_path]
    )
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


wildcard_constraints:
    study="[A-Za-z0-9][A-Za-z0-9._-]*",
    run="[A-Za-z0-9][A-Za-z0-9._+-]*",
    range_test="[A-Za-z0-9][A-Za-z0-9._-]*",
    dataset="[A-Za-z0-9][A-Za-z0-9._-]*",
    seed="[0-9]+",
    combination="[0-9a-f]{16}",
