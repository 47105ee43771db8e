"""What a study will cost, from a few timed steps, before any of it is run."""

import time


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
    localrule: True
    conda:
        "../envs/report.yaml"
    params:
        file=lambda wildcards: str(STUDY_FILES[FOLDERS[wildcards.study]]),
        places=places,
    script:
        "../workflow/scripts/write_plan.py"
