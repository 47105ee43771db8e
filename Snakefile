"""rangefinder: which learning rate, which schedule, how large a batch?"""

from snakemake.utils import min_version

min_version("9.0")


configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/check.smk"
include: "rules/lr_range.smk"
include: "rules/train.smk"
include: "rules/aggregate.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        [report_files(name) for name in config["studies"]],


# Every study is a target by its name: `snakemake --cores all lenet5-mnist`.
for name in STUDY_FILES:

    rule:
        name:
            name
        input:
            partial(study_reports, name),
