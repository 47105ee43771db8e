"""What the benchmarks make of their measurements: order, ratios, records beside each other, tables."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise

import harness
import pytest
from workplace import ROOT


def load(name):
    """A benchmark's module; by its file, since `table` is also the name of one in tests/torture."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", ROOT / f"tests/benchmarks/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


table = load("table")

# A benchmark of two processes, which prints what must not be taken for a measurement.
WORKERS = """
import os, time, harness
from pathlib import Path

def case(seconds):
    def work():
        print("7 7")
        with open(Path(__file__).with_name("processes"), "a") as file:
            print(os.getpid(), file=file)
        time.sleep(seconds)
    return lambda options: work

options = harness.parser("", rounds=1).parse_args()
cases = {"short": case(0), "long": case(0.2)}
harness.main("x", "X", "call", cases, [], options, workers=True)
"""


def options(**changes):
    return argparse.Namespace(
        **{"case": None, "threads": 1, "device": "cpu", "rounds": 2, "warm_up": 0, "record": True} | changes
    )


def measured(name="step", title="A step", settings=None, ratios=(), sizes=None, **changes):
    """Record a benchmark of two cases that do next to nothing."""
    cases = {"short": lambda options: lambda: None, "long": lambda options: lambda: time.sleep(0.001)}
    harness.main(
        name, title, "step", cases, ratios, options(**changes), workers=False, settings=settings, sizes=sizes
    )


@pytest.fixture
def record(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "RECORDS", tmp_path)

    def read():
        [path] = tmp_path.glob("*.json")
        return json.loads(path.read_text())

    return read


def test_no_case_always_follows_the_same_one():
    def order():
        made = []
        harness.interleave({name: lambda name=name: made.append(name) for name in "abcd"}, 40, 3)
        return made

    made = order()
    assert all(sorted(made[first : first + 4]) == list("abcd") for first in range(0, len(made), 4))
    follows = Counter(pairwise(made))
    for name in "abcd":
        neighbours = [count for (before, after), count in follows.items() if after == name and before != name]
        assert len(neighbours) == 3 and max(neighbours) < 0.6 * sum(neighbours)
    assert made == order()  # measured again, it is the same order


def test_rounds_that_warm_up_do_not_count():
    calls = iter(range(9))
    assert harness.interleave({"a": lambda: next(calls)}, rounds=3, warm_up=2) == {"a": [2, 3, 4]}


def test_cases_in_processes_of_their_own_are_measured_there(tmp_path):
    script = tmp_path / "bench.py"
    script.write_text(WORKERS)
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "tests/benchmarks")}
    command = [sys.executable, str(script), "--rounds", "2", "--threads", "1"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    found = {line.split()[0]: float(line.split()[1]) for line in done.stdout.splitlines()[1:3]}
    assert found["long"] >= 200 > found["short"]  # ms
    assert len(set((tmp_path / "processes").read_text().split())) == 2


def test_a_ratio_to_several_takes_the_fastest():
    times = {name: [harness.Sample(wall, wall)] * 3 for name, wall in {"a": 6, "b": 3, "c": 2}.items()}
    assert harness._quotients(times, harness.Ratio("", "a", ("b", "c")), "wall") == [3, 3, 3]
    assert harness._quotients(times, harness.Ratio("", "a", "b"), "wall") == [2, 2, 2]


def test_a_record_replaces_only_the_one_with_the_same_settings(record):
    measured(threads=2)
    measured(threads=1)
    measured(threads=1, settings={"batch": 128})
    first = record()["benchmarks"]
    assert list(first) == ["step, threads 1", "step, threads 1, batch 128", "step, threads 2"]
    measured(threads=1, title="again")
    then = record()["benchmarks"]
    assert then.pop("step, threads 1")["title"] == "again"
    del first["step, threads 1"]
    assert then == first


def test_threads_do_not_tell_apart_what_a_gpu_computes():
    assert harness.key("step", {"threads": 16, "batch": 8}, "cuda") == "step, batch 8"


def test_wanted_figures_of_the_same_name_are_told_apart(record):
    ratios = [harness.Ratio("long over short", "long", "short", least=1.0)]
    measured(threads=1, ratios=ratios)
    measured(threads=2, ratios=ratios)
    measured(name="other", title="Another", threads=2, ratios=ratios)
    measured(name="alone", ratios=[harness.Ratio("short over long", "short", "long", most=1.0)])
    lines = list(table.tables(record()))
    wanted = [line.split(" | ")[0] for line in lines[: lines.index("", 2)] if "long over" in line]
    assert sorted(wanted) == [
        "| long over short (A step, threads 1)",
        "| long over short (A step, threads 2)",
        "| long over short (Another, threads 2)",
    ]
    assert any(line.startswith("| short over long | at most 1 |") for line in lines)


def test_sizes_are_numbers_in_the_record_and_stand_in_the_table(record):
    measured(sizes={"memory, MiB": 134.7})
    [entry] = record()["benchmarks"].values()
    assert entry["sizes"] == {"memory, MiB": 134.7}
    assert "| memory, MiB | 134.7 |" in list(table.tables(record()))


def test_a_profile_stands_in_the_table(record):
    rounds = {"before": [{"x": 8.0, "all": 10.0}] * 3, "after": [{"x": 1.0, "all": 4.0}] * 3}
    with harness.conditions("Where it goes", options()) as entry:
        pass
    entry |= {"unit": "µs"} | harness.profiled(rounds, {"saved": ("before", "after")}, "all")
    harness.keep("x", entry, "cpu", part="profiles")
    lines = list(table.tables(record() | {"benchmarks": {}}))
    assert "| µs | before | after | saved |" in lines
    assert "| x | 8 (80.0%) | 1 (25.0%) | 7 (7 to 7) |" in lines


def test_every_operation_of_a_step_is_in_the_part_it_belongs_to():
    profile_step = load("profile_step")
    names = {
        "aten::conv2d": "convolutions",
        "autograd::engine::evaluate_function: ConvolutionBackward0": "convolutions",
        "aten::tanh": "tanh",
        "autograd::engine::evaluate_function: TanhBackward0": "tanh",
        "autograd::engine::evaluate_function: AvgPool2DBackward0": "average",
        "autograd::engine::evaluate_function: TBackward0": "linear",
        "autograd::engine::evaluate_function: torch::autograd::AccumulateGrad": "linear",
        "Optimizer.step#Adam.step": "optimizer",
        profile_step.BATCH: "the batch",
        profile_step.READING: "losses",
        "aten::argmax": "losses",
        profile_step.EPOCH: "order",
        "aten::index_select": "other",
    }
    for name, part in names.items():
        [found] = [key for key, value in profile_step.split([(name, 1.0)]).items() if value]
        assert found.startswith(part), name


def test_imports_are_counted_by_package():
    log = """import time: self [us] | cumulative | imported package
import time:       100 |        100 |     json.decoder
import time:       200 |        300 |   torch._C
a warning | of 5 | torch
import time:      1000 |       1300 | torch
import time:         7 |          7 | yaml
"""
    spent = load("profile_imports").split(log)
    assert {key: value for key, value in spent.items() if value} == {
        "torch": 1.2,
        "Python's own modules": 0.1,
        "all others": 0.007,
        "all imports": pytest.approx(1.307),
    }
