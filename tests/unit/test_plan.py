"""The plan's arithmetic on made-up times, in closed form; and that timing is of the real thing and leaves nothing."""

import subprocess

import pytest
import torch
from rangefinder import (
    crowding,
    data,
    durations,
    models,
    plan,
    range_test,
    records,
    runs,
    shown_plan,
    study,
    timing,
)
from test_records import MACHINE, example_run

STUDY = """
title: A small study
dataset: {name: digits, validation: 200, train_samples: 300, test_samples: 100}
model: {name: LeNetSmall}
run: {batch_size: 50, epochs: 7, lr: suggested, eval_every: 2}
seeds: [0, 1]
optimizers: {sgd: {name: SGD, momentum: 0.9}}
schedules: {none: {name: none}, onecycle: {name: OneCycleLR}}
range_tests:
  sgd: {optimizer: sgd, start_lr: 1e-3, end_lr: 10, steps_per_decade: 20, validation_every: 10, confirm: {epochs: 2}}
sweeps:
  schedules: {grid: {optimizer: [sgd], schedule: [none, onecycle], lr: [0.1, suggested], batch_size: [50, 100]}}
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(STUDY)
    return study.load(path)


def both(seconds):
    return {"wall": seconds, "cpu": 2 * seconds}


def made_up(small):
    """Batch 50: 6 steps an epoch of 0.1 s, of 0.2 s in a sweep; batch 100: 3 steps of 0.5 s.

    Powers of ten tell the parts apart.
    """
    of_sweep, _ = plan.sweeps(small)["sgd"]
    entries = {}
    for key, subject in plan.subjects(small).items():
        large = subject["batch_size"] == 100
        entries[key] = {
            "steps_per_epoch": 3 if large else 6,
            "step_s": both(0.5 if large else 0.2 if key == of_sweep else 0.1),
            "validation_s": both(100.0),
            "test_s": both(1000.0),
            "data_s": both(1e5),
            "build_s": both(1e6),
            "warm_up_s": both(1e7),
            "state_bytes": 4000,
        }
    return {
        "device": "cpu",
        "start_s": both(1e8),
        "once_s": both(1e4),
        "subjects": entries,
        "sweeps": {"sgd": 81},
        "crowded": {"4": 1.25},
    }


def test_lrs_schedules_and_seeds_share_one_timing_and_batch_sizes_and_sweeps_do_not(small):
    assert sorted(entry["batch_size"] for entry in plan.subjects(small).values()) == [50, 50, 100]
    found = [(group.kind, group.parameters["batch_size"], len(group.names)) for group in plan.groups(small)]
    assert found == [
        ("range_test", 50, 2),
        ("confirm_lr_range", 50, 2),
        ("train", 50, 8),
        ("train", 100, 8),
    ]
    assert sorted(name for group in plan.groups(small) for name in group.names) == sorted(
        job["name"] for job in small.jobs()
    )


def test_runs_that_share_a_job_bear_a_part_of_its_start_each(small):
    alone = plan.rows(small, made_up(small), {}, set(), between_s=3e9)
    # 16 runs; 8 refer to the LR range and 8 do not, in jobs of 3, 3 and 2: of the start each bears 3 / 8 on average.
    shared = plan.rows(small, made_up(small), {}, set(), between_s=3e9, runs_per_job=3)
    once, own = 3e9 + 1e8 + 1e5 + 1e4, 1e7 + 1e6
    assert shared[:2] == alone[:2]
    assert sum(8 * row["start_s"] for row in shared[2:]) == pytest.approx(6 * once + 16 * own)
    assert [row["together"] for row in shared] == [1, 1, 3, 3]
    for one, part in zip(alone[2:], shared[2:], strict=True):
        assert one["total_s"] - part["total_s"] == pytest.approx(8 * (one["start_s"] - part["start_s"]))


def test_times_add_up_to_what_paper_and_pencil_give(small):
    rows = plan.rows(small, made_up(small), {}, set(), between_s=3e9)
    sweep, confirmation, batch50, batch100 = rows
    start = 3e9 + 1e8 + 1e7 + 1e6 + 1e5 + 1e4
    assert [row["start_s"] for row in rows] == [pytest.approx(start)] * 4
    # 81 steps, the validation loss at steps 0, 10, …, 80.
    assert sweep["total_s"] == pytest.approx(2 * (start + 16.2 + 9 * 100), abs=1e-3)
    # 7 epochs, evaluated after 2, 4, 6 and the last.
    assert batch50["total_s"] == pytest.approx(8 * (start + 42 * 0.1 + 4 * 1100), abs=1e-3)
    assert batch100["total_s"] == pytest.approx(8 * (start + 21 * 0.5 + 4 * 1100), abs=1e-3)
    assert (batch50["steps"], batch50["steps_left"], batch50["epochs"]) == (336, 336, 7)
    # Snakemake's own time is not the jobs' computing.
    assert batch50["left_cpu_s"] == pytest.approx(2 * 8 * (start - 3e9 + 42 * 0.1 + 4 * 1100), abs=1e-3)
    trainings = plan.groups(small)[1].trainings
    assert trainings > 4
    again = (trainings - 1) * 1.1e7
    assert confirmation["total_s"] == pytest.approx(
        2 * (start + again + trainings * (12 * 0.1 + 1100)), abs=1e-3
    )
    assert confirmation["steps"] == 2 * trainings * 12


def test_what_is_done_is_not_left(small):
    done = {("train", name) for name in plan.groups(small)[2].names[:3]}
    row = plan.rows(small, made_up(small), {}, done, 0.0)[2]
    assert (row["jobs"], row["done"], row["steps"], row["steps_left"]) == (8, 3, 336, 210)
    assert row["left_s"] == pytest.approx(row["total_s"] * 5 / 8)


def test_earlier_runs_tell_the_time_of_a_step_and_the_plan_says_so(small, tmp_path):
    folder = tmp_path / "results"
    names = plan.groups(small)[2].names
    for name, seconds, device in ((names[0], 0.6, "cpu"), (names[1], 1.2, "cpu"), (names[2], 9.0, "a GPU")):
        record = example_run() | {"run": name, "steps_per_epoch": 6}
        record["files"] = dict.fromkeys(("epochs.csv", "steps.csv"), "a" * 64)
        records.write_json(folder / f"runs/{name}/run.json", record)
        epochs = [{"epoch": number, "train_s": seconds, "evaluate_s": 0.0} for number in (1, 2)]
        records.write_json(
            folder / f"runs/{name}/machine.json", MACHINE | {"device": device, "epochs": epochs}
        )
    known = plan.from_records(small, folder, names[:3], "cpu")
    # Two runs of two epochs of six steps: 3.6 s for 24 steps.
    assert list(known.values()) == [{"runs": 2, "step_s": pytest.approx(0.15)}]
    rows = plan.rows(small, made_up(small), known, set(), 0.0)
    assert [(row["timed"], row["step_s"]) for row in rows[2:]] == [
        ("2 finished runs", pytest.approx(0.15)),
        ("timed steps", 0.5),
    ]


def test_jobs_fill_the_places_and_the_longest_one_bounds_the_time(monkeypatch):
    def row(kind, jobs, seconds, done=0, timed="timed steps", together=1):
        entry = {"kind": kind, "jobs": jobs, "done": done, "timed": timed, "together": together}
        return entry | {"left_s": (jobs - done) * seconds}

    # An LR range takes 1 s, the figures 8, the tables 3, the run table 2, the report 4.
    times = {"extract_lr_range": 1, "draw_figures": 8, "aggregate": 3, "resolve_study": 2, "write_report": 4}
    monkeypatch.setattr(durations, "LIGHT", times)
    rows = [row("range_test", 3, 10.0), row("train", 8, 100.0, done=2)]
    assert durations.wall_seconds(rows, 1, 1.0, 2) == 30 + 2 + 600 + 13 + 4
    # Two places: the third range test runs alone; tables and run table beside the figures.
    assert durations.wall_seconds(rows, 2, 1.0, 2) == 20 + 1 + 300 + 8 + 4
    assert durations.wall_seconds(rows, 100, 1.0, 2) == 10 + 1 + 100 + 8 + 4
    assert durations.wall_seconds(rows, 100, 2.0, 2) == 10 + 2 + 100 + 16 + 8
    assert durations.wall_seconds([row("train", 5, 9.0, done=5)], 4, 1.0, 0) == 8 + 4
    # Jobs of three, three and two runs.
    shared = [row("train", 8, 100.0, together=3)]
    assert durations.wall_seconds(shared, 2, 1.0, 0) == 500 + 8 + 4
    assert durations.wall_seconds(shared, 100, 1.0, 0) == 300 + 8 + 4
    # Jobs beside each other take longer, but for those that tell how long they took beside others.
    crowded = {"2": 1.5}
    assert durations.wall_seconds(rows, 2, 1.0, 2, crowded) == 30 + 1 + 450 + 8 + 4
    assert durations.wall_seconds(rows, 1, 1.0, 2, crowded) == 30 + 2 + 600 + 13 + 4
    told = [row("train", 6, 100.0, timed="3 finished runs")]
    assert durations.wall_seconds(told, 2, 1.0, 0, crowded) == 300 + 8 + 4


def test_a_gap_lies_between_two_jobs_of_the_same_snakemake():
    def moment(began, finished, parent=7):
        return {"began": began, "finished": finished, "parent": [parent, 1]}

    assert durations.gaps([moment(10.0, 12.0), moment(0.0, 9.5), moment(15.0, 16.0)]) == [0.5, 3.0]
    assert durations.gaps([moment(0.0, 9.5), moment(9.0, 12.0)]) == [0.0]  # the clocks' ticks are coarse
    assert durations.gaps([moment(0.0, 1.0), moment(2.0, 3.0, parent=8)]) == []


def test_companions_slow_a_step_by_what_is_measured_and_are_gone_afterwards(small, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    data.prepare({"name": "digits"}, tmp_path / "digits")
    monkeypatch.setattr(timing, "PASS_S", 0.05)
    monkeypatch.setattr(crowding.os, "sched_getaffinity", lambda _: {0, 1})
    subject = next(iter(plan.subjects(small).values()))
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        crowding.subprocess, "Popen", lambda *args, **kw: started.append(popen(*args, **kw)) or started[-1]
    )
    found = crowding.factors(subject, [1, 2, 64], tmp_path)
    assert set(found) == {"2"} and 1 <= found["2"] < 20
    assert [process.returncode for process in started] == [0]
    monkeypatch.setattr(crowding.sys, "executable", "/bin/false")
    assert crowding.factors(subject, [2], tmp_path) == {}  # companions that end say nothing


def test_the_page_names_device_duration_disk_and_source(small):
    timed = made_up(small)
    rows = plan.rows(small, timed, {}, set(), 0.5)
    page = shown_plan.text(small, rows, timed, places=[1, 4], light_s=1.0, between_s=0.5, ranges_left=1)
    assert "# Plan of small: A small study" in page and "20 computing jobs, 0 of them done" in page
    assert "with 1 at once, " in page and "with 4 at once." in page and "(device: cpu)" in page
    assert "up to 32 kB of checkpoints" in page  # 2 files × 4 kB × 4 at once
    assert page.count("timed steps") == 4 and "0.5 s between two jobs" in page
    assert "slow each other on this machine: 1.25 times with 4." in page
    unknown = shown_plan.text(small, rows, timed, places=[1], light_s=1.0, between_s=None, ranges_left=1)
    assert "not a cluster's queue" in unknown
    assert all(len(column) == 4 for column in plan.columns(rows).values())


def counted(function, calls, name):
    def called(*arguments, **options):
        calls[name] += 1
        return function(*arguments, **options)

    return called


def test_real_steps_are_timed_and_nothing_is_left_of_them(small, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    data.prepare({"name": "digits"}, tmp_path / "data/digits")
    before = sorted(path for path in tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(timing, "PASS_S", 0.02)
    of_sweep, _ = plan.sweeps(small)["sgd"]
    made = dict.fromkeys(("train", "sweep"), 0)
    monkeypatch.setattr(timing.Trainer, "train", counted(timing.Trainer.train, made, "train"))
    monkeypatch.setattr(range_test, "sweep", counted(range_test.sweep, made, "sweep"))
    found = timing.measure(plan.subjects(small), plan.sweeps(small), set(), data_root="data")
    # Up to four passes of each subject, and what the process's first training takes.
    assert made["sweep"] >= 2 and made["train"] <= 2 * 4 + 2
    assert sorted(path for path in tmp_path.rglob("*")) == before
    assert min(found["once_s"].values()) >= 0
    assert found["device"] == "cpu" and found["sweeps"] == {"sgd": 81}
    by_batch = {
        subject["batch_size"]: found["subjects"][key]
        for key, subject in plan.subjects(small).items()
        if key != of_sweep
    }
    assert {batch: entry["steps_per_epoch"] for batch, entry in by_batch.items()} == {50: 6, 100: 3}
    model, _ = models.seeded_build({"name": "LeNetSmall"}, (1, 8, 8), 10, initialisation="default", seed=0)
    weights = sum(parameter.numel() for parameter in model.parameters())
    for entry in by_batch.values():
        assert entry["state_bytes"] == 2 * 4 * weights  # weights and momentum
    for entry in found["subjects"].values():
        assert min(entry["step_s"].values()) > 0 and entry["test_s"]["wall"] > 0
    known = set(found["subjects"])
    again = timing.measure(plan.subjects(small), plan.sweeps(small), known, data_root="data")
    entry = again | {"study": "small", "start_s": both(1.0), "known": {}, "crowded": {"2": 1.5}}
    entry["moments"] = [{"began": 1.0, "finished": 2.0, "parent": [1, 2]}]
    records.write_json(tmp_path / "timing.json", entry)
    assert records.read_json(tmp_path / "timing.json", "timing")["sweeps"] == {"sgd": 81}
    assert runs.digest(next(iter(plan.subjects(small).values()))) in again["subjects"]
