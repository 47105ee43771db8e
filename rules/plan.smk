"""What a study will cost, from a few timed steps, before any of it is run."""

import os
import time


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


rule time_steps:
    input:
        data=study_data,
        checks=study_checks,
    output:
        timing=f"{RESULTS}/{{study}}/timing.json",
    log:
        f"{RESULTS}/{{study}}/logs/plan/time_steps.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        gpu=gpus,
        mem_mb=4000,
        runtime=60,
    params:
        spec=lambda wildcards: {
            "study": wildcards.study,
            "file": str(STUDY_FILES[FOLDERS[wildcards.study]]),
            "data": DATA,
        },
        # A machine is timed as it is now.
        moment=time.time(),
    script:
        "../workflow/scripts/time_steps.py"


rule write_plan:
    input:
        timing=rules.time_steps.output.timing,
    output:
        plan=f"{RESULTS}/{{study}}/plan.md",
        table=f"{RESULTS}/{{study}}/plan.csv",
    log:
        f"{RESULTS}/{{study}}/logs/plan/write_plan.log",
    conda:
        "../envs/report.yaml"
    params:
        file=lambda wildcards: str(STUDY_FILES[FOLDERS[wildcards.study]]),
        places=places,
    script:
        "../workflow/scripts/write_plan.py"
