"""From run records to tables."""

TABLES = [
    "accuracy",
    "time",
    "differences",
    "largest_batch",
    "lr_ranges",
    "finders",
    "confirmation",
    "runs",
    "published",
    "findings",
]


rule resolve_study:
    output:
        study=f"{RESULTS}/{{study}}/study.json",
        runs=f"{RESULTS}/{{study}}/runs.csv",
    log:
        f"{RESULTS}/{{study}}/logs/resolve_study.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    params:
        digest=lambda wildcards: study_of(wildcards.study).digest,
        file=lambda wildcards: str(STUDY_FILES[FOLDERS[wildcards.study]]),
    script:
        "../workflow/scripts/resolve_study.py"


rule aggregate:
    input:
        study=f"{RESULTS}/{{study}}/study.json",
        ranges=range_files,
        confirmations=confirmation_files,
        runs=run_files,
        published=published_files,
    output:
        tables=[
            report(
                f"{RESULTS}/{{study}}/tables/{name}.csv",
                caption="../report/table.rst",
                category="{study}",
                subcategory="tables",
                labels={"result": name.replace("_", " ")},
            )
            for name in TABLES
        ],
        record=f"{RESULTS}/{{study}}/tables.json",
    log:
        f"{RESULTS}/{{study}}/logs/aggregate.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    script:
        "../workflow/scripts/aggregate.py"
