"""One study, killed (-9) at random moments again and again, and continued by just running the same command."""

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


def jobs(attempt: Attempt) -> dict[int, str]:
    """The process of every training and range test that runs now, and the log file that names it."""
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
            found[int(folder.name)] = Path(names[0]).stem
    return found


def strike(attempt: Attempt, interrupted: Counter[str], rng: random.Random) -> tuple[str, list[str]] | None:
    """Kill a job, Snakemake, or both, while jobs are under way.

    All processes are stopped first, so that none that has finished just before is counted as killed.

    Returns:
        What was killed and the runs it interrupted; None if there was nothing to kill.
    """
    group = attempt.process.pid
    if not attempt.running:
        return None
    os.killpg(group, signal.SIGSTOP)
    try:
        running = {pid: run for pid, run in jobs(attempt).items() if stopped(pid)}
        allowed = {pid: run for pid, run in running.items() if interrupted[run] < MOST_PER_RUN}
        if not allowed:
            return None
        target = "a job"
        if len(allowed) == len(running):
            target = rng.choices(list(TARGETS), weights=list(TARGETS.values()))[0]
        if target == "a job":
            victim = rng.choice(sorted(allowed))
            os.kill(victim, signal.SIGKILL)
            return target, [allowed[victim]]
        if target == "Snakemake alone":
            os.kill(group, signal.SIGKILL)
        else:
            os.killpg(group, signal.SIGKILL)
        return (target, sorted(running.values())) if attempt.wait() == -signal.SIGKILL else None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGCONT)


def stopped(pid: int) -> bool:
    """Whether a process is there and halts within a second of being told to."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        if state in "TZX":
            return state == "T"
        time.sleep(0.005)
    return False


def continuations(results: Path) -> list[bool]:
    """Of every time that a run went on from a checkpoint: whether that was one within an epoch."""
    found = []
    for log in results.glob("*/logs/train/*.log"):
        epoch = json.loads((log.parents[2] / "runs" / log.stem / "run.json").read_text())["steps_per_epoch"]
        for step in CONTINUED.findall(log.read_text()):
            found.append(int(step) % epoch != 0)
    return found


def endure(folder: Path, name: str, trial: str | None, wanted: int, seed: int) -> dict[str, Any]:
    """Run a study undisturbed, and again with `wanted` kills; what was done and what was lost."""
    rng = random.Random(seed)
    undisturbed = Study(folder / "kills-undisturbed", name, trial)
    undisturbed.run_undisturbed()
    print(f"{name} takes {undisturbed.seconds:.0f} s undisturbed", flush=True)
    place = Study(folder / "kills", name, trial)
    made: Counter[str] = Counter()
    interrupted: Counter[str] = Counter()
    pause = 0.6 * undisturbed.seconds / wanted  # of running jobs, so that the kills are spread over the study
    attempt = place.start()
    while sum(made.values()) < wanted:
        while attempt.running and not jobs(attempt):
            time.sleep(0.1)
        attempt.until(rng.uniform(0, 2 * pause))
        if hit := strike(attempt, interrupted, rng):
            made[hit[0]] += 1
            interrupted.update(hit[1])
            print(f"kill {sum(made.values())} of {wanted}: {hit[0]}, at {', '.join(hit[1])}", flush=True)
        if not attempt.running:
            if attempt.code == 0:
                raise SystemExit(f"{name} was finished after {sum(made.values())} of {wanted} kills")
            attempt = place.start()
    attempt.wait()
    while attempt.code != 0 and place.attempts < wanted + 2 * MOST_PER_RUN:
        attempt = place.run()
    lost = [] if attempt.code == 0 else [f"success of the same command: {attempt.output()[-2000:]}"]
    found, expected = place.records(), undisturbed.records()
    changed = {key for key in found | expected if found.get(key) != expected.get(key)}
    lost += [f"the bytes of {key}" for key in sorted(changed)]
    lost += [f"a clean folder: {left} was left" for left in place.leftovers()]
    within = continuations(place.results)
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
