"""What a study will cost, from a few timed steps, before any of it is run."""

import time

STARTS = 3


rule time_start:
    input:
        data=study_data,
        checks=study_checks,
        # One after another: what lies between two is what Snakemake takes from job to job.
        before=lambda wildcards: (
            f"{RESULTS}/{wildcards.study}/start{int(wildcards.number) - 1}.json"
            if int(wildcards.number)
            else []
        ),
    output:
        start=temp(f"{RESULTS}/{{study}}/start{{number,[0-9]+}}.json"),
    log:
        f"{RESULTS}/{{study}}/logs/plan/time_start{{number}}.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        gpu=gpus,
        mem_mb=2000,
        runtime=60,
    params:
        spec=lambda wildcards: {"study": wildcards.study},
        moment=time.time(),
    script:
        "../workflow/scripts/time_start.py"


rule time_steps:
    input:
        data=study_data,
        checks=study_checks,
        starts=expand(
            f"{RESULTS}/{{{{study}}}}/start{{number}}.json", number=range(STARTS)
        ),
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
        places=places,
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
    localrule: True
    conda:
        "../envs/report.yaml"
    params:
        file=lambda wildcards: str(STUDY_FILES[FOLDERS[wildcards.study]]),
        places=places,
    script:
        "../workflow/scripts/write_plan.py"
