"""Training: one job per run, or `runs_per_job` of them."""

from functools import partial
from types import SimpleNamespace


rule train:
    input:
        unpack(train_input),
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


# Which runs share a job is known before any of it runs, so each such job is a rule of its own. Without wildcards it
# comes before `train` where both could make a run.
for name, (folder, chunk) in shared_jobs().items():

    rule:
        name:
            name
        input:
            **train_input(SimpleNamespace(study=folder, run=chunk[0].id)),
        output:
            run=[f"{RESULTS}/{folder}/runs/{run.id}/run.json" for run in chunk],
            machine=[f"{RESULTS}/{folder}/runs/{run.id}/machine.json" for run in chunk],
            epochs=[f"{RESULTS}/{folder}/runs/{run.id}/epochs.csv" for run in chunk],
            steps=[f"{RESULTS}/{folder}/runs/{run.id}/steps.csv" for run in chunk],
        log:
            [f"{RESULTS}/{folder}/logs/train/{run.id}.log" for run in chunk],
        conda:
            "../envs/train.yaml"
        threads: 1
        resources:
            gpu=run_gpus,
            nodes=1,
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=partial(shared_minutes, len(chunk)),
            slurm_extra=STOP_IN_TIME,
        params:
            specs=[run.spec for run in chunk],
        script:
            "../workflow/scripts/train.py"

    set_as_train(name)
