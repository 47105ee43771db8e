"""rangefinder: which learning rate, which schedule, how large a batch?"""

from snakemake.utils import min_version

min_version("9.0")


include: "rules/config.smk"


configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/safety.smk"
include: "rules/inputs.smk"
include: "rules/resources.smk"
include: "rules/shared_jobs.smk"
include: "rules/data.smk"
include: "rules/check.smk"
include: "rules/lr_range.smk"
include: "rules/train.smk"
include: "rules/aggregate.smk"
include: "rules/report.smk"
include: "rules/plan.smk"


rule all:
    default_target: True
    input:
        [study_results(name) for name in config["studies"]],


# What that will cost, before it is run.
rule plan:
    input:
        [plan_file(name) for name in config["studies"]],


# Every study is a target by its name, and so is its plan: `snakemake --cores all lenet5-mnist-plan`.
for name in STUDY_FILES:

    rule:
        name:
            name
        input:
            partial(study_results, name),

    rule:
        name:
            f"{name}-plan"
        input:
            partial(study_plan, name),
