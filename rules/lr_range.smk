"""LR range tests, one job per optimizer and seed, the LR range extracted from them, and runs that confirm it."""


rule range_test:
    input:
        data=lambda wildcards: data_files(range_test_of(wildcards).dataset),
        check=partial(check_file, range_test_of),
    output:
        sweep=f"{RESULTS}/{{study}}/lr_range/{{range_test}}/seed{{seed}}/sweep.json",
        table=f"{RESULTS}/{{study}}/lr_range/{{range_test}}/seed{{seed}}/sweep.csv",
        machine=f"{RESULTS}/{{study}}/lr_range/{{range_test}}/seed{{seed}}/machine.json",
    log:
        f"{RESULTS}/{{study}}/logs/range_test/{{range_test}}-seed{{seed}}.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        gpu=gpus,
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        spec=lambda wildcards: range_test_of(wildcards).spec(int(wildcards.seed)),
    script:
        "../workflow/scripts/range_test.py"


rule extract_lr_range:
    input:
        sweeps=sweep_files,
        tables=partial(sweep_files, name="sweep.csv"),
    output:
        range=f"{RESULTS}/{{study}}/lr_range/{{range_test}}/range.json",
    log:
        f"{RESULTS}/{{study}}/logs/extract_lr_range/{{range_test}}.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    script:
        "../workflow/scripts/extract_lr_range.py"


rule confirm_lr_range:
    input:
        data=lambda wildcards: data_files(range_test_of(wildcards).dataset),
        range=f"{RESULTS}/{{study}}/lr_range/{{range_test}}/range.json",
        check=partial(check_file, range_test_of),
    output:
        confirmation=f"{RESULTS}/{{study}}/lr_range/{{range_test}}/confirmation/seed{{seed}}/confirmation.json",
        machine=f"{RESULTS}/{{study}}/lr_range/{{range_test}}/confirmation/seed{{seed}}/machine.json",
    log:
        f"{RESULTS}/{{study}}/logs/confirm_lr_range/{{range_test}}-seed{{seed}}.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        gpu=gpus,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        slurm_extra=STOP_IN_TIME,
    params:
        spec=lambda wildcards: range_test_of(wildcards).confirmation_spec(
            int(wildcards.seed)
        ),
    script:
        "../workflow/scripts/confirm_lr_range.py"
