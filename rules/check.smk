"""One small check of what a study takes from elsewhere, before any job that uses it."""


rule check_parts:
    input:
        data=lambda wildcards: f"{DATA}/{combination_of(wildcards)['data']}/dataset.json",
    output:
        check=f"{RESULTS}/{{study}}/checks/{{combination}}.json",
    log:
        f"{RESULTS}/{{study}}/logs/check_parts/{{combination}}.log",
    # Before the jobs of other parts of the study, which need not wait for it.
    priority: 100
    localrule: True
    conda:
        "../envs/train.yaml"
    params:
        combination=lambda wildcards: combination_of(wildcards),
        file=lambda wildcards: str(STUDY_FILES[FOLDERS[wildcards.study]]),
    script:
        "../workflow/scripts/check_parts.py"
