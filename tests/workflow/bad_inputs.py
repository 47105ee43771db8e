"""Bad inputs, each given to the real workflow: what Snakemake says, its exit status, and what it left behind.

python tests/workflow/bad_inputs.py            print the messages, one line each
python tests/workflow/bad_inputs.py --write    keep them as the golden file

One process imports Snakemake and forks for every case, which saves its start for each.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("golden") / "bad-inputs.txt"

STUDY = """\
title: A study
dataset: {name: digits, validation: 200}
model: {name: LeNetSmall}
run: {batch_size: 50, epochs: 4, lr: suggested}
seeds: [0, 1]
optimizers:
  sgd: {name: SGD, momentum: 0.9}
schedules:
  none: {name: none}
  step: {name: StepLR, step_size: 2}
  multistep: {name: MultiStepLR, milestones: [2, 3]}
  onecycle: {name: OneCycleLR}
range_tests:
  sgd: {optimizer: sgd, start_lr: 1e-3, end_lr: 10, steps_per_decade: 20}
sweeps:
  all:
    grid: {optimizer: [sgd], schedule: [none, step, multistep, onecycle]}
"""
CONFIG = "studies: [bad]\n"

# Name: what is replaced in the study, and by what.
STUDIES: dict[str, tuple[str, str]] = {
    # the file itself
    "study-empty": (STUDY, ""),
    "study-a-list": (STUDY, "- title\n"),
    "study-not-yaml": ("seeds: [0, 1]", "seeds: [0, 1"),
    "study-tab": ("run: {", "run:\t{"),
    "study-key-twice": ("seeds: [0, 1]", "seeds: [0]\nseeds: [1]"),
    "study-python-object": ("title: A study", "title: !!python/object/apply:os.system [ls]"),
    "study-alias-unknown": ("seeds: [0, 1]", "seeds: *nowhere"),
    "study-key-not-text": ("title: A study", "[1, 2]: 3\ntitle: A study"),
    "study-key-unknown": ("title:", "titel:"),
    "study-key-missing": ("model: {name: LeNetSmall}\n", ""),
    "title-empty": ("title: A study", "title: ''"),
    "title-half-a-character": ("title: A study", 'title: "\\ud83d"'),
    "title-number": ("title: A study", "title: 3"),
    "notes-text": ("seeds: [0, 1]", "seeds: [0, 1]\nnotes: a note"),
    "published-unknown": ("seeds: [0, 1]", "seeds: [0, 1]\npublished: lars_cifar"),
    "published-outside": ("seeds: [0, 1]", "seeds: [0, 1]\npublished: ../../secret"),
    # data set
    "dataset-unknown": ("name: digits", "name: digit"),
    "dataset-without-name": ("name: digits, validation: 200", "validation: 200"),
    "dataset-key-unknown": ("validation: 200", "valdation: 200"),
    "validation-all": ("validation: 200", "validation: 1437"),
    "validation-more-than-training": ("validation: 200", "validation: 1430"),
    "validation-negative": ("validation: 200", "validation: -1"),
    "train-samples-more-than-there-are": ("validation: 200", "validation: 200, train_samples: 1238"),
    "test-samples-more-than-there-are": ("validation: 200", "test_samples: 361"),
    "normalise-unknown": ("validation: 200", "normalise: standard"),
    "normalise-std-zero": ("validation: 200", "normalise: {mean: [0.5], std: [0]}"),
    "normalise-for-colour": ("validation: 200", "normalise: {mean: [0.5, 0.5, 0.5], std: [1, 1, 1]}"),
    "normalise-std-missing": ("validation: 200", "normalise: {mean: [0.5], std: []}"),
    "augmentation-unknown": ("validation: 200", "augmentation: {rotate: 10}"),
    "npz-without-path": ("name: digits, validation: 200", "name: npz"),
    "npz-not-there": ("name: digits, validation: 200", "name: npz, path: no.npz"),
    "own-data-not-there": ("name: digits, validation: 200", "name: 'own.py:make'"),
    # model
    "model-unknown": ("name: LeNetSmall", "name: LeNet"),
    "model-argument-unknown": ("name: LeNetSmall", "name: LeNetSmall, hidden: [3]"),
    "model-classes-one": ("name: LeNetSmall", "name: LeNetSmall, classes: 1"),
    "model-fewer-classes-than-the-data": ("name: LeNetSmall", "name: LeNetSmall, classes: 9"),
    "model-for-larger-images": ("name: LeNetSmall", "name: LeNet5"),
    "model-for-less-shrunk-images": ("validation: 200", "validation: 200, resize: 3"),
    "model-hidden-text": ("name: LeNetSmall", "name: MLP, hidden: wide"),
    "own-model-not-there": ("name: LeNetSmall", "name: ../net.py:make"),
    # run settings
    "run-key-unknown": ("epochs: 4", "epoch: 4"),
    "epochs-text": ("epochs: 4", "epochs: many"),
    "epochs-zero": ("epochs: 4", "epochs: 0"),
    "epochs-beyond-any-run": ("epochs: 4", "epochs: 99999999999999999999"),
    "epochs-fraction": ("epochs: 4", "epochs: 4.5"),
    "batch-size-zero": ("batch_size: 50", "batch_size: 0"),
    "batch-larger-than-the-data": ("batch_size: 50", "batch_size: 5000"),
    "micro-batch-no-divisor": ("batch_size: 50", "batch_size: 50, micro_batch: 20"),
    "lr-zero": ("lr: suggested", "lr: 0"),
    "lr-negative": ("lr: suggested", "lr: -0.1"),
    "lr-expression-unknown": ("lr: suggested", "lr: sugested / 10"),
    "lr-expression-code": ("lr: suggested", "lr: __import__('os')"),
    "lr-k-without-reference": ("lr: suggested", "lr: 0.1 * k"),
    "precision-unknown": ("epochs: 4", "epochs: 4, precision: fp16"),
    "initialisation-unknown": ("epochs: 4", "epochs: 4, initialisation: he"),
    "order-unknown": ("epochs: 4", "epochs: 4, order: shuffled"),
    "compile-mode-unknown": ("epochs: 4", "epochs: 4, compile: fast"),
    "compile-number": ("epochs: 4", "epochs: 4, compile: 1"),
    "channels-last-number": ("epochs: 4", "epochs: 4, channels_last: 1"),
    "seeds-empty": ("seeds: [0, 1]", "seeds: []"),
    "seeds-twice": ("seeds: [0, 1]", "seeds: [0, 0]"),
    "seeds-negative": ("seeds: [0, 1]", "seeds: [-1]"),
    # optimizers
    "optimizer-unknown": ("name: SGD,", "name: SDG,"),
    "optimizer-argument-unknown": ("momentum: 0.9", "momentun: 0.9"),
    "optimizer-argument-text": ("momentum: 0.9", "momentum: high"),
    "optimizer-argument-negative": ("momentum: 0.9", "momentum: -0.9"),
    "optimizer-betas-one": ("name: SGD, momentum: 0.9", "name: Adam, betas: [0.9]"),
    "optimizer-betas-too-high": ("name: SGD, momentum: 0.9", "name: Adam, betas: [0.9, 1]"),
    "optimizer-nesterov-without-momentum": ("momentum: 0.9", "nesterov: true"),
    "optimizer-fused-and-foreach": ("momentum: 0.9", "momentum: 0.9, fused: true, foreach: true"),
    "optimizer-name-too-long": ("  sgd: {name: SGD", "  " + 101 * "s" + ": {name: SGD"),
    "optimizer-name-unusable": ("  sgd: {name: SGD", "  ../sgd: {name: SGD"),
    "optimizers-none": ("optimizers:\n  sgd: {name: SGD, momentum: 0.9}", "optimizers: {}"),
    # schedules
    "schedule-unknown": ("name: OneCycleLR", "name: OneCycle"),
    "schedule-key-unknown": ("step_size: 2", "stepsize: 2"),
    "schedule-of-another": ("name: OneCycleLR", "name: OneCycleLR, step_size: 3"),
    "schedule-milestone-infinite": ("milestones: [2, 3]", "milestones: [2, -.inf]"),
    "schedule-key-missing": ("name: StepLR, step_size: 2", "name: StepLR"),
    "step-size-zero": ("step_size: 2", "step_size: 0"),
    "gamma-negative": ("step_size: 2", "step_size: 2, gamma: -0.1"),
    "milestone-past-the-end": ("milestones: [2, 3]", "milestones: [2, 4]"),
    "pct-start-above-one": ("name: OneCycleLR", "name: OneCycleLR, pct_start: 30"),
    "max-lr-unknown-name": ("name: OneCycleLR", "name: OneCycleLR, max_lr: lr * two"),
    "momentum-to-cycle-missing": (
        "SGD, momentum: 0.9}\nschedules:\n  none: {name: none}",
        "Adagrad}\nschedules:\n  none: {name: OneCycleLR, cycle_momentum: true}",
    ),
    "warmup-as-long-as-training": ("step_size: 2", "step_size: 2, warmup: {epochs: 4}"),
    "warmup-of-steps-as-long-as-training": ("step_size: 2", "step_size: 2, warmup: {steps: 100}"),
    "warmup-of-writeup2-longer-than-training": (
        "name: OneCycleLR",
        "name: writeup2, warmup_multiplier: 2, end_lr: 1e-3, warmup_epochs: 9",
    ),
    "warmup-kind-unknown": ("step_size: 2", "step_size: 2, warmup: {epochs: 1, kind: cubic}"),
    # range tests
    "range-test-optimizer-unknown": ("optimizer: sgd, start", "optimizer: adam, start"),
    "range-test-falling": ("end_lr: 10", "end_lr: 1e-4"),
    "range-test-start-zero": ("start_lr: 1e-3", "start_lr: 0"),
    "range-test-too-coarse": ("steps_per_decade: 20", "steps_per_decade: 5"),
    "range-test-beyond-any-sweep": ("steps_per_decade: 20", "steps_per_decade: 1000000000"),
    "range-test-two-lengths": ("steps_per_decade: 20", "steps_per_decade: 20, epochs: 2"),
    "range-test-key-unknown": ("steps_per_decade: 20", "steps: 20"),
    "confirm-without-length": ("steps_per_decade: 20", "confirm: {seeds: [0]}"),
    "confirm-beyond-any-run": ("steps_per_decade: 20", "confirm: {epochs: 99999999999}"),
    "confirm-reserved-name": ("steps_per_decade: 20", "confirm: {steps: 9, lrs: {suggested_lr: 0.1}}"),
    # sweeps
    "sweep-key-unknown": ("    grid: {", "    grids: {"),
    "sweep-name-unusable": ("  all:", "  a b:"),
    "sweep-axis-unknown": ("schedule: [none, step", "schedules: [none, step"),
    "sweep-axis-empty": ("optimizer: [sgd]", "optimizer: []"),
    "sweep-value-not-a-number": ("optimizer: [sgd]", "optimizer: [sgd], lr: [0.1, .nan]"),
    "sweep-value-infinite": ("optimizer: [sgd]", "optimizer: [sgd], lr: [1e999]"),
    "sweep-value-in-itself": ("optimizer: [sgd]", "optimizer: &a [sgd, *a]"),
    "sweep-value-twice": ("optimizer: [sgd]", "optimizer: [sgd, sgd]"),
    "sweep-optimizer-unknown": ("optimizer: [sgd]", "optimizer: [lion]"),
    "sweep-schedule-unknown": ("[none, step,", "[none, steps,"),
    "sweep-without-schedule": (", schedule: [none, step, multistep, onecycle]", ""),
    "sweep-value-out-of-range": ("optimizer: [sgd]", "optimizer: [sgd], batch_size: [50, 0]"),
    "sweep-value-in-cells-and-grid": ("    grid: {", "    cells: [{schedule: step}]\n    grid: {"),
    "sweep-name-of-a-run-too-long": (
        "    grid: {",
        f"    prefix: {100 * 'p'}\n    grid: {{lr: [suggested{40 * ' * 1'}], ",
    ),
    "sweep-form-unknown": ("    grid: {", "    form: published\n    grid: {"),
    "sweep-prefix-outside": ("    grid: {", "    prefix: ../other\n    grid: {"),
    "sweep-same-run-other-parameters": (
        "sweeps:\n",
        "sweeps:\n  b:\n    set: {epochs: 3, schedule: none}\n    grid: {optimizer: [sgd]}\n",
    ),
    "range-test-missing": ("optimizer: [sgd]", "optimizer: [sgd], range_test: [adam]"),
    "sweep-seed-text": ("    grid: {", "    seeds: [one]\n    grid: {"),
}

# Name: what follows --config on the command line, or the text of config/config.yaml.
CONFIGS: dict[str, list[str] | str] = {
    "config-key-unknown": ["reslts=x"],
    "config-study-unknown": ["studies=bed"],
    "config-studies-dir-not-there": ["studies_dir=nowhere"],
    "config-data-dir-not-there": ["data_dir=/nowhere"],
    "config-data-dir-too-long": ["data_dir=" + "x" * 300],
    "config-results-empty": ["results="],
    "config-results-a-file": ["results=config/config.yaml"],
    "config-results-in-a-file": ["results=config/config.yaml/results"],
    "config-results-too-long": ["results=" + 300 * "x"],
    "config-results-impossible": 'studies: [bad]\nresults: "a\\0b"\n',
    "config-results-a-wildcard": ["results={}"],
    "config-results-with-a-wildcard": 'studies: [bad]\nresults: "a{b}"\n',
    "config-download-text": ["download=maybe"],
    "config-jobs-per-gpu-zero": ["jobs_per_gpu=0"],
    "config-runs-per-job-zero": ["runs_per_job=0"],
    "config-runs-per-job-negative": ["runs_per_job=-1"],
    "config-runs-per-job-fraction": ["runs_per_job=1.5"],
    "config-runs-per-job-text": ["runs_per_job=two"],
    "config-runs-per-job-null": ["runs_per_job=null"],
    "config-checkpoints-never": ["checkpoint_minutes=.nan"],
    "config-wait-negative": ["device_wait_minutes=-1"],
    "config-trial-key-unknown": ["trial={epoch: 2}"],
    "config-trial-empty": ["trial={}"],
    "config-trial-zero": ["trial={epochs: 0}"],
    "config-trial-not-yaml": ["trial={epochs: 2"],
    "config-file-not-yaml": "studies: [bad\nresults: x\n",
    "config-file-tab": "studies:\t[bad]\n\tresults: x\n",
    "config-file-empty": "",
    "config-file-a-list": "- bad\n",
    "config-file-key-twice": "studies: [bad]\nresults: x\nresults: y\n",
    "config-file-evaluated": "__use_yte__: true\nresults: ?open('evaluated', 'w').name\n",
    "config-file-study-unknown": "studies: [bed]\n",
    "config-file-null": "studies: [bad]\njobs_per_gpu: null\n",
    "config-file-studies-number": "studies: 3\n",
    "config-file-partial-text": "studies: [bad]\npartial: perhaps\n",
    "config-file-results-number": "studies: [bad]\nresults: 5\n",
}
# Files of a study's folder whose name is at fault.
NAMES = {
    "study-file-named-as-a-trial": "x-trial.yaml",
    "study-file-named-as-a-plan": "bad-plan.yaml",
    "study-file-named-as-a-target": "plan.yaml",
    "study-file-named-as-a-rule": "train.yaml",
    "study-file-named-as-the-data": "data.yaml",
    "study-file-name-unusable": "a study.yaml",
    "study-file-name-too-long": 101 * "s" + ".yaml",
}

NAMES_OF_CASES = [*STUDIES, *CONFIGS, *NAMES]


def prepare(case: str, folder: Path) -> list[str]:
    """Write a case's files into an empty folder; the arguments that it is run with."""
    (folder / "config/studies").mkdir(parents=True)
    study, config, arguments = STUDY, CONFIG, []
    if case in STUDIES:
        old, new = STUDIES[case]
        if old not in study:
            raise ValueError(f"case {case}: {old!r} is not in the study")
        study = study.replace(old, new, 1)
    elif case in NAMES:
        (folder / "config/studies" / NAMES[case]).write_text(STUDY)
    elif isinstance(CONFIGS[case], str):
        config = CONFIGS[case]
    else:
        arguments = ["--config", *CONFIGS[case]]
    (folder / "config/config.yaml").write_text(config)
    (folder / "config/studies/bad.yaml").write_text(study)
    return arguments


def outcome(case: str, folder: Path) -> dict:
    """Run one case in a child process: exit status, lines of output, and whether anything was left behind."""
    arguments = prepare(case, folder)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        text = io.StringIO()
        code = 1
        try:
            os.chdir(folder)
            sys.stdout.flush()
            with redirect_stdout(text), redirect_stderr(text):
                code = _snakemake(arguments)
        except BaseException as error:  # the parent reports it
            text.write(f"\n{type(error).__name__} {error}")
        with os.fdopen(write, "w") as pipe:
            json.dump({"code": code, "text": text.getvalue()}, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        found = json.load(pipe)
    os.waitpid(child, 0)
    return {
        "code": found["code"],
        "errors": [line for line in found["text"].splitlines() if line.startswith("error:")],
        "output": found["text"],
        "left": sorted(path.name for path in folder.iterdir() if path.name not in ("config", ".snakemake")),
    }


def _snakemake(arguments: list[str]) -> int:
    from snakemake.cli import main

    profile = ["--workflow-profile", str(ROOT / "profiles/default")]
    try:
        main(["-s", str(ROOT / "Snakefile"), "--cores", "1", *profile, *arguments])
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code)  # as the interpreter does
        return end.code if isinstance(end.code, int) else 1
    return 0


def outcomes() -> dict[str, dict]:
    """Every case's `outcome`, by name."""
    import snakemake.cli  # before the children part, so that none of them has to

    assert snakemake.cli
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for case in NAMES_OF_CASES:
            (Path(folder) / case).mkdir()
            found[case] = outcome(case, Path(folder) / case)
    return found


def as_text(found: dict[str, dict]) -> str:
    """The messages as the golden file has them."""
    return "".join(
        f"{case}\n    {' | '.join(entry['errors']) or '(none)'}\n" for case, entry in found.items()
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="keep the messages as the golden file")
    parser.add_argument("--json", action="store_true", help="print the outcomes as JSON")
    options = parser.parse_args()
    results = outcomes()
    if options.write:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(as_text(results))
    print(json.dumps(results) if options.json else as_text(results))
