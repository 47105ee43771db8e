"""One study, killed (-9) at random moments again and again, and continued by just running the same command."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

from places import ROOT, Attempt, Workflow

MOST_PER_RUN = 5
TARGETS = ("a job", "Snakemake alone", "Snakemake and its jobs")


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
            time.sleep(0.2)
        attempt.until(rng.uniform(0, 2 * pause))
        running = jobs(attempt)
        allowed = {pid: run for pid, run in running.items() if interrupted[run] < MOST_PER_RUN}
        if not attempt.running:
            if attempt.code == 0:
                break  # the study was finished before all kills were made
            attempt = place.start()
            continue
        if not allowed:
            time.sleep(0.05)
            continue
        target = rng.choice(TARGETS if len(allowed) == len(running) else TARGETS[:1])
        if target == "a job":
            victim = rng.choice(sorted(allowed))
            hit = [allowed[victim]]
            os.kill(victim, signal.SIGKILL)
        else:
            hit = list(running.values())
            if target == "Snakemake alone":
                os.kill(attempt.process.pid, signal.SIGKILL)
            else:
                attempt.send(signal.SIGKILL)
            attempt.wait()
            attempt = place.start()
        interrupted.update(hit)
        made[target] += 1
        print(f"kill {sum(made.values())} of {wanted}: {target}, at {', '.join(hit)}", flush=True)
    attempt.wait()
    while attempt.code != 0 and place.attempts < wanted + 2 * MOST_PER_RUN:
        attempt = place.run()
    lost = [] if attempt.code == 0 else [f"success of the same command: {attempt.output()[-2000:]}"]
    found, expected = place.records(), undisturbed.records()
    changed = {key for key in found | expected if found.get(key) != expected.get(key)}
    lost += [f"the bytes of {key}" for key in sorted(changed)]
    lost += [f"a clean folder: {left} was left" for left in place.leftovers()]
    machines = [json.loads(path.read_text()) for path in place.results.glob("*/runs/*/machine.json")]
    return {
        "study": name + (f", trial {trial}" if trial else ""),
        "kills": dict(sorted(made.items())),
        "commands": place.attempts,
        "runs_interrupted": len(interrupted),
        "most_interruptions_of_a_run": max(interrupted.values(), default=0),
        "resumed_from_a_checkpoint": sum(machine["resumed"] for machine in machines),
        "records_compared": len(expected),
        "lost": lost,
    }
