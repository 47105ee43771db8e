"""Where the time of a training step of LeNet-5 goes: in the write-ups' loop, in the engine, and in the floor.

    PYTHONPATH=workflow/scripts python tests/benchmarks/profile_step.py --threads 1 [--record]

The write-ups' loop is what the engine is measured against in bench_epoch.py, the floor the one of bench_step.py; batch
128, Adam, on a CPU. `torch.profiler` gives the time of each operation; the batch, and what surrounds the steps, is
marked; what no operation accounts for is Python. Every case has a process of its own: the write-ups' loop has the
allocator as it comes, the others the engine's. What the profiler costs is seen in the step without it. The engine
makes a hundred steps per epoch: they share its order, its row in the record and one look for a divergence.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterator
from functools import partial, wraps
from itertools import islice

import bench_step
import harness
import table
import workloads

STEPS = 100  # of an engine's epoch; LOOK_EVERY of the trainer
SCRIPT_STEPS = (
    20  # of the write-ups' loop in a round: a picture is a thousand events of the profiler per batch
)
AHEAD = 3  # batches that a loader process has made while it was not asked: they go before the clock starts
BATCH = "the batch: taken, resized, collated; or gathered and scaled"
READING = "losses and right answers: read, or kept"
EPOCH = "order of the epoch, its row, look for a divergence"
OTHERS = "other operations"
PYTHON = "Python between the operations"
TOTAL = "the step, under the profiler"
PLAIN = "the step without the profiler"
# What an operation that is not inside another belongs to, by the first pattern that is found in its name.
PARTS = {
    "convolutions, forward and backward": r"conv2d|ConvolutionBackward",
    "tanh, forward and backward": r"aten::tanh|TanhBackward",
    "average pooling, forward and backward": r"avg_pool2d|AvgPool2DBackward",
    "linear layers, loss, gradients kept": (
        r"aten::(flatten|linear|cross_entropy|ones_like)|"
        r"(Addmm|T|View|Reshape|NllLoss|LogSoftmax)Backward|AccumulateGrad"
    ),
    "optimizer: step and zeroing": r"^Optimizer\.",
    BATCH: f"^{re.escape(BATCH)}$",
    READING: f"^{re.escape(READING)}$|" + r"^aten::(item|argmax|eq|sum|add_|detach|select|copy_)$",
    EPOCH: f"^{re.escape(EPOCH)}$",
    OTHERS: "",
}

Steps = tuple[Callable[[], object], Callable[[], object], int]  # done before, what is profiled, its steps


def marked(owner: object, name: str, part: str) -> None:
    """Have every call of a function stand in the profile under the name of a part."""
    from torch.profiler import record_function

    plain = getattr(owner, name)

    @wraps(plain)
    def call(*args: object, **kwargs: object) -> object:
        with record_function(part):
            return plain(*args, **kwargs)

    setattr(owner, name, call)


def write_up(loader_processes: int, options: argparse.Namespace) -> Steps:
    workloads.start(options, keep_memory=False)
    import torch
    from sklearn import metrics
    from torch.profiler import record_function

    marked(metrics, "accuracy_score", READING)
    model, optimizer = workloads.lenet_and_adam("cpu")
    pictures = workloads.Pictures(SCRIPT_STEPS * 128)
    endless = torch.utils.data.RandomSampler(pictures, replacement=True, num_samples=10**9)
    batches = iter(
        torch.utils.data.DataLoader(pictures, batch_size=128, sampler=endless, num_workers=loader_processes)
    )

    def taken() -> Iterator:
        for _ in range(SCRIPT_STEPS):
            with record_function(BATCH):
                batch = next(batches)
            yield batch

    def train(source: Iterator) -> None:
        workloads.write_up_pass(model, optimizer, source, "cpu", learn=True)

    return lambda: train(islice(batches, AHEAD)), lambda: train(taken()), SCRIPT_STEPS


def engine(options: argparse.Namespace) -> Steps:
    workloads.start(options, keep_memory=True)
    # Every round trains two epochs, one of them without the profiler.
    twice = argparse.Namespace(
        **vars(options) | {"rounds": 2 * options.rounds, "warm_up": 2 * options.warm_up}
    )
    made = bench_step.trainer(twice, STEPS, {})
    marked(made.parts.loader, "batch", BATCH)
    marked(made.parts.loader, "start_epoch", EPOCH)
    marked(made, "_find_divergence", EPOCH)
    marked(made, "_end_epoch", EPOCH)
    return lambda: None, made.train_epoch, STEPS


def floor(options: argparse.Namespace) -> Steps:
    workloads.start(options, keep_memory=True)
    before, work = bench_step.floor({})(options)
    return before, work, bench_step.steps(options)


def profiled(steps: Steps) -> dict[str, float]:
    """Microseconds that each part of a step takes, and the step without the profiler."""
    from torch.profiler import ProfilerActivity, profile

    before, work, count = steps
    before()
    start = time.perf_counter()
    work()
    plain = time.perf_counter() - start
    before()
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as found:
        start = time.perf_counter()
        work()
        total = time.perf_counter() - start
    outermost = [(one.name, one.cpu_time_total) for one in found.events() if one.cpu_parent is None]
    spent = split(outermost)
    parts = spent | {PYTHON: 1e6 * total - sum(spent.values()), TOTAL: 1e6 * total, PLAIN: 1e6 * plain}
    return {part: value / count for part, value in parts.items()}


def split(operations: list[tuple[str, float]]) -> dict[str, float]:
    """Times of the parts from those of (operation, time)."""
    spent = dict.fromkeys(PARTS, 0.0)
    for name, value in operations:
        spent[next(part for part, pattern in PARTS.items() if re.search(pattern, name))] += value
    return spent


CASES: dict[str, Callable[[argparse.Namespace], Steps]] = {
    "write-up's loop, one loader process": partial(write_up, 1),
    "write-up's loop, no loader process": partial(write_up, 0),
    "engine": engine,
    "floor": floor,
}


def main() -> None:
    parser = harness.parser(__doc__, rounds=10)
    options = parser.parse_args()
    if options.device != "cpu":
        parser.error("a step on a GPU is one launch of a graph, which this does not look into")
    options.model = "LeNet5"  # as bench_step.py has it
    if options.case:
        harness.serve(lambda: partial(profiled, CASES[options.case](options)))
        return
    with harness.conditions("Where a step of LeNet-5 goes", options, {"batch": 128}) as entry:
        rounds = harness.in_workers(CASES, options)
    entry |= {"unit": "µs per step"}
    entry |= harness.profiled(rounds, {"engine beyond the floor": ("engine", "floor")}, TOTAL)
    print("\n".join(table.profile(entry)))
    if options.record:
        name = harness.key("step", entry["settings"], options.device)
        harness.keep(name, entry, options.device, part="profiles")


if __name__ == "__main__":
    main()
