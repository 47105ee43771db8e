"""Configuration, and the studies that it names."""

import gc
import sys
from functools import cache
from pathlib import Path

from rangefinder import progress, runs

ELSEWHERE = elsewhere()
config = or_exit(studies.load_config, config, CONFIG, ELSEWHERE)
RESULTS = config["results"]
DATA = f"{RESULTS}/data"
STUDY_FILES = or_exit(
    studies.find, config["studies_dir"], ELSEWHERE.get("studies_dir", CONFIG)
)
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
    or_exit(collection.check_published, study.record(), list(study.range_tests), folder)


# A study that is asked for is checked before any job starts.
for name in config["studies"]:
    if name not in STUDY_FILES:
        error = InputError(
            "unknown study",
            file=ELSEWHERE.get("studies", CONFIG),
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


wildcard_constraints:
    study="[A-Za-z0-9][A-Za-z0-9._-]*",
    run="[A-Za-z0-9][A-Za-z0-9._+-]*",
    range_test="[A-Za-z0-9][A-Za-z0-9._-]*",
    dataset="[A-Za-z0-9][A-Za-z0-9._-]*",
    seed="[0-9]+",
    combination="[0-9a-f]{16}",
