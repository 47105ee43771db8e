"""Jobs that train several runs: which runs share one, and what such a job asks for."""

import re
import sys

from rangefinder import chunks


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
