"""One study, killed (-9) at random moments again and again, and continued by just running the same command.

Moments are drawn in work done, not in seconds: when so many of the study's jobs are finished, a job under way is struck
after a random share of its epochs. So kills are spread over the study and over the runs at any speed of the machine,
rather than falling mostly on the import of torch.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from places import ROOT, Attempt, Workflow

MOST_PER_RUN = 5
TARGETS = {"a job": 3, "Snakemake alone": 1, "Snakemake and its jobs": 1}  # how often, relative to each other
LAST = 0.85  # share of the jobs after which no kill is planned, so that there are jobs left to kill
IN_LOG = re.compile(r" epoch (\d+)/(\d+) ")
CONTINUED = re.compile(r"continuing from the checkpoint at step (\d+)")


class Study(Workflow):
    """One of the repository's studies, from the data to the report."""

    def __init__(self, folder: Path, name: str, trial: str | None) -> None:
        super().__init__(folder)
        self.arguments = ["--cores", "2", name, "--config", f"studies_dir={ROOT / 'config/studies'}"]
        self.arguments += [f"studies={name}", "checkpoint_minutes=0", "checkpoint_epochs=1"]
        self.arguments += [f"trial={trial}"] if trial else []
        (folder / "config").mkdir(parents=True)
        (folder / "config/config.yaml").write_text("{}\n")


def jobs(attempt: Attempt) -> dict[int, Path]:
    """The process of every training and range test that runs now, and its log file."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if os.getpgid(int(folder.name)) != attempt.process.pid:
                continue
            logs = [os.readlink(link) for link in (folder / "fd").iterdir()]
        except OSError:  # it is gone
            continue
        names = [log for log in logs if "/logs/train/" in log or "/logs/range_test/" in log]
        if names:
            found[int(folder.name)] = Path(names[0])
    return found


def share_done(log: Path, begun: int) -> float:
    """Share of its epochs that a run has done, by what its log says after the first `begun` bytes."""
    said = IN_LOG.findall(log.read_bytes()[begun:].decode(errors="replace"))
    return int(said[-1][0]) / int(said[-1][1]) if said else 0.0


def await_moment(attempt: Attempt, interrupted: Counter[str], rng: random.Random) -> int | None:
    """Wait for a random moment of one of the jobs under way: an epoch of a run, a second of a range test.

    Returns:
        the job's process; None if no job may be killed now, or it ended before that moment.
    """
    running = {pid: log for pid, log in jobs(attempt).items() if interrupted[log.stem] < MOST_PER_RUN}
    if not running:
        time.sleep(0.05)
        return None
    pid = rng.choice(sorted(running))
    log, trains = running[pid], running[pid].parent.name == "train"
    begun, share = log.stat().st_size, rng.random()
    deadline = time.monotonic() + (60.0 if trains else rng.uniform(0, 4))
    while alive(pid) and time.monotonic() < deadline and share_done(log, begun) < share:
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.05))  # anywhere in the epoch that follows, its checkpoint included
    return pid if alive(pid) else None


def strike(
    attempt: Attempt, victim: int, interrupted: Counter[str], rng: random.Random
) -> tuple[str, list[str]] | None:
    """Kill a job, Snakemake, or both, while the job is under way.

    All processes are stopped first, so that none that has finished just before is counted as killed.

    Returns:
        What was killed and the runs it interrupted; None if there was nothing to kill.
    """
    group = attempt.process.pid
    if not attempt.running:
        return None
    os.killpg(group, signal.SIGSTOP)
    try:
        running = {pid: log.stem for pid, log in jobs(attempt).items() if stopped(pid)}
        if victim not in running or interrupted[running[victim]] >= MOST_PER_RUN:
            return None
        target = "a job"
        if all(interrupted[run] < MOST_PER_RUN for run in running.values()):
            target = rng.choices(list(TARGETS), weights=list(TARGETS.values()))[0]
        if target == "a job":
            os.kill(victim, signal.SIGKILL)
            return target, [running[victim]]
        if target == "Snakemake alone":
            os.kill(group, signal.SIGKILL)
        else:
            os.killpg(group, signal.SIGKILL)
        return (target, sorted(running.values())) if attempt.wait() == -signal.SIGKILL else None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGCONT)


def state(pid: int) -> str:
    """The letter of a process's state (proc(5)); X for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def alive(pid: int) -> bool:
    """Whether a process has not ended."""
    return state(pid) not in "ZX"


def stopped(pid: int) -> bool:
    """Whether a process is there and halts within a second of being told to."""
    for _ in range(200):
        if (now := state(pid)) in "TZX":
            return now == "T"
        time.sleep(0.005)
    return False


def finished(place: Study) -> int:
    """Trainings and range tests that are finished."""
    folders = (path for path in place.results.iterdir() if path.is_dir()) if place.results.exists() else ()
    return sum(
        1
        for folder in folders
        for pattern in ("runs/*/run.json", "lr_range/*/seed*/sweep.json")
        for _ in folder.glob(pattern)
    )


def continuations(results: Path) -> list[bool]:
    """Of every time that a run went on from a checkpoint: whether that was one within an epoch."""
    found = []
    for log in results.glob("*/logs/train/*.log"):
        epoch = json.loads((log.parents[2] / "runs" / log.stem / "run.json").read_text())["steps_per_epoch"]
        for step in CONTINUED.findall(log.read_text()):
            found.append(int(step) % epoch != 0)
    return found


def unproven(within: list[bool]) -> list[str]:
    """What these kills did not put to the test: a run must have been continued, and one from within an epoch."""
    proofs = {
        "a run that continued from a checkpoint": within,
        "one that did so within an epoch": [*filter(None, within)],
    }
    return [what for what, times in proofs.items() if not times]


def endure(folder: Path, name: str, trial: str | None, wanted: int, seed: int) -> dict[str, Any]:
    """Run a study undisturbed, and again with `wanted` kills; what was done and what was lost."""
    rng = random.Random(seed)
    undisturbed = Study(folder / "kills-undisturbed", name, trial)
    undisturbed.run_undisturbed()
    print(f"{name} takes {undisturbed.seconds:.0f} s undisturbed", flush=True)
    place = Study(folder / "kills", name, trial)
    made: Counter[str] = Counter()
    interrupted: Counter[str] = Counter()
    total = finished(undisturbed)
    after = sorted(rng.uniform(0, LAST) * total for _ in range(wanted))
    attempt = place.start()
    while (count := sum(made.values())) < wanted:
        victim = await_moment(attempt, interrupted, rng) if finished(place) >= int(after[count]) else None
        hit = strike(attempt, victim, interrupted, rng) if victim else None
        if hit:
            made[hit[0]] += 1
            interrupted.update(hit[1])
            print(f"kill {count + 1} of {wanted}: {hit[0]}, at {', '.join(hit[1])}", flush=True)
        if not attempt.running:
            if attempt.code == 0:
                raise SystemExit(f"{name} was finished after {sum(made.values())} of {wanted} kills")
            attempt = place.start()
        time.sleep(0.02)
    attempt.wait()
    while attempt.code != 0 and place.attempts < wanted + 2 * MOST_PER_RUN:
        attempt = place.run()
    lost = [] if attempt.code == 0 else [f"success of the same command: {attempt.output()[-2000:]}"]
    found, expected = place.records(), undisturbed.records()
    changed = {key for key in found | expected if found.get(key) != expected.get(key)}
    lost += [f"the bytes of {key}" for key in sorted(changed)]
    lost += [f"a clean folder: {left} was left" for left in place.leftovers()]
    within = continuations(place.results)
    lost += unproven(within)
    return {
        "study": name + (f", trial {trial}" if trial else ""),
        "kills": dict(sorted(made.items())),
        "commands": place.attempts,
        "runs_interrupted": len(interrupted),
        "most_interruptions_of_a_run": max(interrupted.values(), default=0),
        "resumed_from_a_checkpoint": len(within),
        "resumed_within_an_epoch": sum(within),
        "records_compared": len(expected),
        "lost": lost,
    }
