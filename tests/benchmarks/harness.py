"""What the benchmarks share: interleaved rounds, medians with quartiles, ratios, one JSON record per machine.

A benchmark names its cases. Each case is a function ``setup(options) -> work``, and ``work()`` does what counts in
one round. It may return what its parts took, and may be `Prepared` by something that does not count. All cases run
in every round, one after another, so that a ratio compares neighbours in time: on a shared machine both sides then
slow down together. Beside the wall time stands the processor time of the process and of those it has started and
ended: on a busy machine, with one thread, it is the steadier of the two.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "docs" / "benchmarks"
WARM_UP = 2  # rounds that do not count


class Prepared(NamedTuple):
    """Work that needs something done before each round, which does not count."""

    before: Callable[[], object]
    work: Callable[[], object]


Work = Callable[[], object] | Prepared
Case = Callable[[argparse.Namespace], Work]


class Sample(NamedTuple):
    """Seconds of one round of one case."""

    wall: float
    cpu: float
    parts: Mapping[str, Sequence[float]] = MappingProxyType(
        {}
    )  # (wall, processor) seconds of what it told of


CLOCKS = ("wall", "cpu")


def timed(work: Work, device: str) -> Sample:
    """One call of `work`, with all that it has left to the device."""
    if isinstance(work, Prepared):
        work.before()
        work = work.work
    wait = _waiting(device)
    wait()
    wall, cpu = time.perf_counter(), cpu_seconds()
    parts = work()
    wait()
    sample = time.perf_counter() - wall, cpu_seconds() - cpu
    return Sample(*sample, parts) if isinstance(parts, dict) else Sample(*sample)


def _waiting(device: str) -> Callable[[], object]:
    if device == "cpu":
        return lambda: None
    import torch

    return torch.cuda.synchronize


def cpu_seconds() -> float:
    """Processor time of this process and of those it has started and ended."""
    return time.process_time() + cpu_seconds_of_ended()


def cpu_seconds_of_ended() -> float:
    """Processor time of the processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def peak_memory_kib() -> int:
    """The most memory that this process has used. Not getrusage: its maximum includes the process that started it."""
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])


@dataclass(frozen=True)
class Ratio:
    """One figure: the median over rounds of the time of `of` over that of `to`.

    Attributes:
        to: of several, the one with the least median; None for the time of `of` itself, in seconds.
        most: the figure should be at most this; None where none is set.
        least: the figure should be at least this.
    """

    name: str
    of: str
    to: str | Sequence[str] | None
    most: float | None = None
    least: float | None = None


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles, to five significant digits."""
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else [*values] * 3
    return {name: float(f"{value:.5g}") for name, value in (("median", median), ("q1", low), ("q3", high))}


Measured = TypeVar("Measured")


def interleave(
    runs: Mapping[str, Callable[[], Measured]], rounds: int, warm_up: int
) -> dict[str, list[Measured]]:
    """What every case measures in each of `rounds` rounds, after `warm_up` that do not count.

    Every round has an order of its own, drawn from a fixed seed: what a case leaves behind (caches, memory, a clock
    that was slowed down) falls to all others in turn, and to the same ones when it is all measured again.
    """
    found: dict[str, list[Measured]] = {name: [] for name in runs}
    draw = random.Random(0)
    for number in range(warm_up + rounds):
        for name in draw.sample(list(runs), len(runs)):
            measured = runs[name]()
            if number >= warm_up:
                found[name].append(measured)
    return found


def in_process(cases: Mapping[str, Case], options: argparse.Namespace) -> dict[str, list[Sample]]:
    """`interleave` with all cases in this process: the closest comparison."""
    works = {name: setup(options) for name, setup in cases.items()}
    return interleave(
        {name: partial(timed, work, options.device) for name, work in works.items()},
        options.rounds,
        options.warm_up,
    )


def in_workers(names: Iterable[str], options: argparse.Namespace) -> dict[str, list[Any]]:
    """`interleave` with a process for every case, for what is set once per process (allocator, compiler).

    The others wait for their turn without using the processor. What they measure comes as `serve` has it.
    """
    command = [sys.executable, *sys.argv, "--case"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = {name: subprocess.Popen([*command, name], **pipes) for name in names}

    def run(name: str) -> Any:
        worker = workers[name]
        try:
            worker.stdin.write("\n")
            worker.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: there is no answer
        answer = worker.stdout.readline()
        if not answer:
            raise SystemExit(f"case {name!r} ended with status {worker.wait()}")
        return json.loads(answer)

    try:
        return interleave({name: partial(run, name) for name in workers}, options.rounds, options.warm_up)
    finally:
        for worker in workers.values():
            with suppress(BrokenPipeError):
                worker.stdin.close()
            worker.wait()


def serve(made: Callable[[], Callable[[], object]]) -> None:
    """A worker of `in_workers`: for each line on stdin a call of what is made; its answer, as JSON, on stdout."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the case prints must not be taken for an answer
    measure = made()
    for _ in sys.stdin:
        print(json.dumps(measure()), file=answers, flush=True)


def parser(description: str, *, rounds: int, warm_up: int = WARM_UP) -> argparse.ArgumentParser:
    """The arguments that all benchmarks have."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--warm-up", type=int, default=warm_up, help="rounds that do not count")
    made.add_argument("--threads", type=int, default=os.cpu_count(), help="of every case on a CPU")
    made.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    made.add_argument("--record", action="store_true", help="write the figures into docs/benchmarks")
    made.add_argument("--case", help=argparse.SUPPRESS)
    return made


def main(
    name: str,
    title: str,
    unit: str,
    cases: Mapping[str, Case],
    ratios: Sequence[Ratio],
    options: argparse.Namespace,
    *,
    workers: bool,
    units: float = 1,
    settings: Mapping[str, object] | None = None,
    packages: Sequence[str] = (),
    sizes: Mapping[str, float] | None = None,
) -> None:
    """Run one benchmark and print its figures; with ``--record`` also keep them.

    Args:
        name: in the record, before the settings.
        unit: what one time is of ("step", "epoch"); a round is `units` of them.
        workers: every case in a process of its own.
        settings: what the figures depend on, kept with them. What was measured with other settings stays beside it.
        packages: peers whose versions are kept.
        sizes: what the cases, while they run, note of their memory and files, with the unit in the name.
    """
    if options.case:
        serve(lambda: partial(_clocks, cases[options.case](options), options.device))
        return
    with conditions(title, options, settings, packages) as entry:
        if workers:
            answers = in_workers(cases, options)
            times = {case: [Sample(*clocks) for clocks in found] for case, found in answers.items()}
        else:
            times = in_process(cases, options)
    entry |= {
        "unit": unit,
        "sizes": dict(sorted((sizes or {}).items())),  # not in the order in which the cases were drawn
        "cases_ms": {
            case: {clock: spread([1e3 * getattr(s, clock) / units for s in found]) for clock in CLOCKS}
            for case, found in times.items()
        },
        "parts_ms": {
            part: {
                clock: spread([1e3 * sample.parts[part][number] for sample in found])
                for number, clock in enumerate(CLOCKS)
            }
            for found in times.values()
            for part in found[0].parts
        },
        "ratios": [
            {
                "name": ratio.name,
                **{clock: spread(_quotients(times, ratio, clock)) for clock in CLOCKS},
                "most": ratio.most,
                "least": ratio.least,
            }
            for ratio in ratios
        ],
    }
    show(entry)
    if options.record:
        keep(key(name, entry["settings"], options.device), entry, options.device)


def _clocks(work: Work, device: str) -> tuple[float, float]:
    return timed(work, device)[:2]


@contextmanager
def conditions(
    title: str,
    options: argparse.Namespace,
    settings: Mapping[str, object] | None = None,
    packages: Sequence[str] = (),
) -> Iterator[dict]:
    """A record's first entries: what is measured within the block, with what, how long, and on how busy a machine."""
    before = os.getloadavg()[0]
    start = time.monotonic()
    entry = {
        "title": title,
        "settings": {"threads": options.threads, **(settings or {})},
        "rounds": options.rounds,
    }
    yield entry
    entry["seconds"] = round(time.monotonic() - start)
    entry["load"] = [round(before, 1), round(os.getloadavg()[0], 1)]
    entry["versions"] = {"python": platform.python_version()} | {p: version(p) for p in ("torch", *packages)}


def key(name: str, settings: Mapping[str, object], device: str) -> str:
    """A benchmark's name in the record: figures replace only those with the same settings.

    Threads are the CPU's: the figures of a GPU do not depend on them.
    """
    told = [f"{k} {v}" for k, v in settings.items() if not (k == "threads" and device == "cuda")]
    return ", ".join([name, *told])


def _quotients(times: Mapping[str, list[Sample]], ratio: Ratio, clock: str) -> list[float]:
    found = [getattr(sample, clock) for sample in times[ratio.of]]
    if ratio.to is None:
        return found
    peers = [ratio.to] if isinstance(ratio.to, str) else ratio.to
    to = min(([getattr(sample, clock) for sample in times[peer]] for peer in peers), key=statistics.median)
    return [value / other for value, other in zip(found, to, strict=True)]


def profiled(
    rounds: Mapping[str, Sequence[Mapping[str, float]]],
    added: Mapping[str, tuple[str, str]],
    total: str,
) -> dict[str, object]:
    """What a record holds of a profile: for each case, and for what one has over another, the time of every part.

    Args:
        rounds: for each case, what every part took in each round.
        added: name: (case, other); the differences are taken within a round.
        total: the part of which all others are shares.
    """
    parts = list(next(iter(rounds.values()))[0])
    cases = {
        case: {part: spread([one[part] for one in found]) for part in parts} for case, found in rounds.items()
    }
    for found in cases.values():
        for figures in found.values():
            figures["share"] = round(figures["median"] / found[total]["median"], 4)
    return {
        "parts": parts,
        "cases": cases,
        "added": {
            name: {
                part: spread([a[part] - b[part] for a, b in zip(rounds[case], rounds[other], strict=True)])
                for part in parts
            }
            for name, (case, other) in added.items()
        },
    }


def show(entry: Mapping) -> None:
    """Print a benchmark's figures: wall time, then processor time."""
    print(f"{entry['title']} ({', '.join(f'{k} {v}' for k, v in entry['settings'].items())})")
    for case, ms in rows(entry).items():
        print(f"  {case:44s} {_text(ms['wall'])}  {_text(ms['cpu'])}  ms/{entry['unit']}")
    for name, size in entry["sizes"].items():
        print(f"  {name:44s} {size:9.4g}")
    for ratio in entry["ratios"]:
        print(f"  {ratio['name']:44s} {_text(ratio['wall'])}  {_text(ratio['cpu'])}  {target(ratio)}")


def rows(entry: Mapping) -> dict[str, Mapping]:
    """The times of a benchmark's cases, and of what they told of their parts."""
    return entry["cases_ms"] | {f"· {part}": found for part, found in entry["parts_ms"].items()}


def _text(found: Mapping[str, float]) -> str:
    return f"{found['median']:9.3f} [{found['q1']:.3f} to {found['q3']:.3f}]"


def target(ratio: Mapping) -> str:
    """The bound on a ratio, in words; empty if it has none."""
    if ratio["most"] is not None:
        return f"at most {ratio['most']:g}"
    return f"at least {ratio['least']:g}" if ratio["least"] is not None else ""


def hardware(device: str) -> str:
    """What the figures were measured on, without a name that tells whose it is."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    return f"{os.cpu_count()}-core {platform.machine().replace('_', '-')} CPU"


def keep(name: str, entry: Mapping, device: str, part: str = "benchmarks") -> None:
    """Put a benchmark's figures into a part of the record of this hardware, beside those of the others."""
    described = hardware(device)
    path = RECORDS / (re.sub(r"[^a-z0-9]+", "-", described.lower()).strip("-") + ".json")
    record = (
        json.loads(path.read_text())
        if path.exists()
        else {"format": 1, "hardware": described, "benchmarks": {}}
    )
    record[part] = dict(sorted((record.get(part, {}) | {name: entry}).items()))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
