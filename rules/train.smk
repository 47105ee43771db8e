"""Training: one job per run."""


rule train:
    input:
        data=lambda wildcards: data_files(run_of(wildcards).dataset),
        lr_range=run_range,
        check=partial(check_file, run_of),
    output:
        run=f"{RESULTS}/{{study}}/runs/{{run}}/run.json",
        machine=f"{RESULTS}/{{study}}/runs/{{run}}/machine.json",
        epochs=f"{RESULTS}/{{study}}/runs/{{run}}/epochs.csv",
        steps=f"{RESULTS}/{{study}}/runs/{{run}}/steps.csv",
    log:
        f"{RESULTS}/{{study}}/logs/train/{{run}}.log",
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        gpu=run_gpus,
        nodes=1,  # SLURM may otherwise give a run's GPUs on two nodes, where it sees half of them
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        slurm_extra=STOP_IN_TIME,
    params:
        # Only what can change a result: where and how fast it runs is a resource or a setting.
        spec=lambda wildcards: run_of(wildcards).spec,
    script:
        "../workflow/scripts/train.py"
