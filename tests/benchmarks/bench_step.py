"""Our training step over the floor: the same arithmetic on batches already in place, recording nothing.

    PYTHONPATH=workflow/scripts python tests/benchmarks/bench_step.py [--device cuda --model ResNet50]

Both sides share a process, and so the allocator's settings. Ours is timed over whole epochs, with the order drawn,
batches gathered and scaled from uint8, losses and accuracy recorded, and the look for a divergence. On a CPU the engine
keeps images and convolutions channels last, and so does its floor; both are also timed contiguous. Where in memory a
network lies makes its steps some per cent faster or slower, and with two threads contiguous ones up to half: there
engine and floor train the same network in the same place, one of several copies, which take turns by round. On a GPU
both are timed with their kernels launched one by one, and from CUDA graphs; the floor's graph holds 20 steps.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable

import harness
import workloads

GRAPH_STEPS = 20  # in the floor's graph
# Of an epoch, so many that its own work weighs what it does in training (469 steps for MNIST).
EPOCHS_STEPS = {("LeNet5", "cpu"): 100, ("LeNet5", "cuda"): 400, ("ResNet50", "cuda"): 40}
COPIES = 6  # of each case on a CPU
VARIANTS = {
    "tf32": {"precision": "tf32"},
    "bf16": {"precision": "bf16"},
    "channels last": {"channels_last": True},
    "bf16, channels last": {"precision": "bf16", "channels_last": True},
}


def steps(options: argparse.Namespace) -> int:
    return EPOCHS_STEPS.get((options.model, options.device), GRAPH_STEPS)


def trainer(options: argparse.Namespace, count: int, changes: dict):
    """The engine's trainer for a data set of so many batches, which is not evaluated."""
    parameters, shape = workload(options.model)
    prepared = workloads.arrays(count * 128, 1, shape)
    epochs = options.rounds + options.warm_up + 2
    return workloads.trainer(parameters | changes | {"eval_every": 10**6}, prepared, options.device, epochs)


def engine(changes: dict) -> harness.Case:
    def setup(options: argparse.Namespace) -> harness.Prepared:
        from rangefinder import experiment

        work = in_turn([made.train_epoch for made in trainers(options, changes)])
        # A setting of the process: another case may have changed it since.
        precision = changes.get("precision", "fp32")
        return harness.Prepared(lambda: experiment.set_precision(precision), work)

    return setup


def floor(changes: dict, graph: bool = False) -> harness.Case:
    def setup(options: argparse.Namespace) -> harness.Prepared:
        from rangefinder import experiment

        if options.device == "cpu":
            copies = [floor_copy(made.parts, steps(options), 1) for made in trainers(options, changes)]
        else:
            parts = trainer(options, GRAPH_STEPS, changes | {"cuda_graph": False}).parts
            copies = [floor_copy(parts, GRAPH_STEPS, steps(options) // GRAPH_STEPS, graph)]
        return harness.Prepared(lambda: experiment.set_precision("fp32"), in_turn(copies))

    return setup


def floor_copy(parts, count: int, times: int, graph: bool = False) -> Callable[[], None]:
    """So many batches of an epoch, in place, so many times over."""
    from torch.nn.functional import cross_entropy

    parts.loader.start_epoch(0)
    batches = [tuple(tensor.clone() for tensor in parts.loader.batch(step)) for step in range(count)]
    model, optimizer = parts.model, parts.optimizer

    def work() -> None:
        for x, y in batches:
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(model(x), y).backward()
            optimizer.step()

    def repeated() -> None:
        for _ in range(times):
            work()

    return workloads.captured(work, times) if graph else repeated


SHARED: dict[str, list] = {}


def trainers(options: argparse.Namespace, changes: dict) -> list:
    """Trainers with these changes; on a CPU the copies that engine and floor share."""
    if options.device != "cpu":
        return [trainer(options, steps(options), changes)]
    key = repr(sorted(changes.items()))
    if key not in SHARED:
        SHARED[key] = [trainer(options, steps(options), changes) for _ in range(COPIES)]
    return SHARED[key]


def in_turn(copies: list[Callable[[], None]]) -> Callable[[], None]:
    """The work of a case, by one of its copies after the other; each has worked once before."""
    for work in copies:
        work()
    following = itertools.cycle(copies)
    return lambda: next(following)()


def workload(model: str) -> tuple[dict, tuple[int, int, int]]:
    return (workloads.LENET, (1, 32, 32)) if model == "LeNet5" else (workloads.RESNET, (3, 32, 32))


def on_cpu() -> tuple[dict[str, harness.Case], list[harness.Ratio]]:
    contiguous = {"channels_last": False}
    return {
        "engine": engine({}),
        "floor": floor({}),
        "engine, contiguous": engine(contiguous),
        "floor, contiguous": floor(contiguous),
    }, [
        harness.Ratio("our step over the fastest floor", "engine", ("floor", "floor, contiguous"), most=1.03),
        harness.Ratio("our step over the floor, both contiguous", "engine, contiguous", "floor, contiguous"),
        harness.Ratio("floor contiguous over channels last", "floor, contiguous", "floor"),
    ]


def on_gpu(model: str) -> tuple[dict[str, harness.Case], list[harness.Ratio]]:
    eager = {"cuda_graph": False}
    cases = {
        "engine": engine({}),
        "floor, in a graph": floor({}, graph=True),
        "engine, not captured": engine(eager),
        "floor": floor({}),
    }
    if model == "ResNet50":
        cases |= {f"engine, {name}": engine(changes) for name, changes in VARIANTS.items()}
    ratios = [
        harness.Ratio("our step over the floor, both in a graph", "engine", "floor, in a graph", most=1.03),
        harness.Ratio("our step over the floor, neither in a graph", "engine, not captured", "floor"),
        harness.Ratio("our step not captured over captured", "engine, not captured", "engine"),
    ]
    for name in VARIANTS if model == "ResNet50" else ():
        ratios.append(harness.Ratio(f"our step over the one with {name}", "engine", f"engine, {name}"))
    return cases, ratios


def main() -> None:
    parser = harness.parser(__doc__, rounds=20)
    parser.add_argument("--model", choices=["LeNet5", "ResNet50"], default="LeNet5")
    options = parser.parse_args()
    workloads.start(options, keep_memory=True)
    cases, ratios = on_cpu() if options.device == "cpu" else on_gpu(options.model)
    harness.main(
        "step" if options.model == "LeNet5" else f"step-{options.model.lower()}",
        f"Training step of {options.model}, batch 128",
        "step",
        cases,
        ratios,
        options,
        workers=False,
        units=steps(options),
    )


if __name__ == "__main__":
    main()
