"""What rules and studies are made from: the functions that look up a job's inputs."""

from functools import cache
from pathlib import Path
from types import SimpleNamespace

from rangefinder import finished, part_checks, parts, runs, validation


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
    entry = part_checks.combination(job)
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


def curve_files(index):
    """The files that a list of published curves names; what is wrong with it `check_published` has said."""
    entries = or_exit(validation.read_yaml, index)
    return [index.parent / entry["file"] for entry in entries]


def published_files(wildcards):
    """The published numbers, curves and claims that a study compares itself with, if there are any."""
    name = study_of(wildcards.study).content["published"]
    if not name:
        return []
    folder = Path(config["studies_dir"]).parent / "published"
    curves, claims = folder / "curves" / f"{name}.yaml", folder / "claims.yaml"
    listed = [curves, *curve_files(curves)] if curves.exists() else []
    found = [folder / f"{name}.csv", *listed, *([claims] if claims.exists() else [])]
    return [str(file) for file in found]


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
