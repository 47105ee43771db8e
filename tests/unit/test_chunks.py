"""Which runs share a job."""

import pytest
from rangefinder import chunks, study

STUDY = """
title: A small study
dataset: {name: digits, validation: 200}
model: {name: LeNetSmall}
run: {batch_size: 50, epochs: 7, lr: 0.1}
seeds: SEEDS
optimizers: {sgd: {name: SGD}, own: {name: own.py:step}}
schedules: {none: {name: none}, cosine: {name: CosineAnnealingLR}, own: {name: own.py:rate}}
range_tests: {sgd: {optimizer: sgd, start_lr: 1e-3, end_lr: 10, steps_per_decade: 20}}
sweeps:
  plain: {grid: {optimizer: [sgd], schedule: [none, cosine]}}
  ranged: {grid: {optimizer: [sgd], schedule: [none], lr: [suggested]}}
  others:
    grid: {optimizer: [sgd], schedule: [none], dataset.train_samples: [300], dataset.resize: [16], lr: [0.2]}
  compiled: {grid: {optimizer: [sgd], schedule: [none], compile: [true]}}
  own-optimizer: {grid: {optimizer: [own], schedule: [none]}}
  own-schedule: {grid: {optimizer: [sgd], schedule: [own]}}
  own-model: {grid: {optimizer: [sgd], schedule: [none], model.name: ["own.py:net"]}}
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    def read(seeds):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "own.py").write_text("def step(): pass\ndef rate(): pass\ndef net(): pass\n")
        (tmp_path / "small.yaml").write_text(STUDY.replace("SEEDS", str(list(seeds))))
        return study.load("small.yaml")

    return read


def ids(lists):
    return [[run.id for run in runs] for runs in lists]


def test_runs_of_the_same_inputs_share_a_job_and_what_nobody_knows_has_one_to_itself(read):
    kinds = ("sgd-none-bs50", "sgd-cosine-bs50")
    ranged, resized = (
        "sgd-none-bs50-lrsuggested",
        "sgd-none-bs50-lr0.2-dataset.train_samples300-dataset.resize16",
    )
    seeds = range(3)
    assert ids(chunks.chunks(read(seeds), 100)) == [
        [f"{kind}-seed{seed}" for seed in seeds for kind in kinds],
        [f"{ranged}-seed{seed}" for seed in seeds],
        [f"{resized}-seed{seed}" for seed in seeds],
    ]


def test_no_list_is_longer_than_asked_and_none_has_one_run(read):
    small = read(range(5))
    assert chunks.chunks(small, 1) == []
    for most in range(2, 12):
        lists = chunks.chunks(small, most)
        assert all(1 < len(runs) <= most for runs in lists)
        together = [run for runs in ids(lists) for run in runs]
        assert len(together) == len(set(together))
    # Ten plain runs, five with the LR range and five of other data; of the last five, one is left over.
    assert sorted(len(runs) for runs in chunks.chunks(small, 4)) == [2, 4, 4, 4, 4]
    assert [len(runs) for runs in chunks.chunks(small, 10)] == [10, 5, 5]


def test_a_new_seed_leaves_full_lists_as_they_are(read):
    before, after = (ids(chunks.chunks(read(range(count)), 4)) for count in (4, 5))
    assert [runs for runs in before if len(runs) == 4] == [runs for runs in after if runs in before]
