"""The torture suite: every fault many times, a study killed again and again, damaged files by the ten thousand.

python tests/torture [--jobs N] [--workflows N] [--kills N] [--fuzz N] [--only FAULT ...] [--seed N] [--write]

With --write, what was done takes the place of the same rows of the docs' table; its other rows stay.
"""

from __future__ import annotations

import argparse
import platform
import signal
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "workflow/scripts")]

import fuzz_readers  # noqa: E402
import kills  # noqa: E402
import table  # noqa: E402
from endure import endure  # noqa: E402
from faults import FAULTS, CannotBeDone  # noqa: E402
from places import ROOT, Job, Place, Workflow  # noqa: E402
from rangefinder import __version__, provenance  # noqa: E402

STORE, PAGE = ROOT / "docs/torture.json", ROOT / "docs/reliability.md"
SUITE = {(kind.title, fault.name) for fault in FAULTS.values() for kind in fault.places}


def prepared(kind: type[Place], folder: Path) -> tuple[Place, Place]:
    """A place whose command was not run yet, and one where it was."""
    origin = kind(folder / f"{kind.__name__}-origin")
    origin.fill()
    origin.prepare()
    undisturbed = origin.copy(folder / f"{kind.__name__}-undisturbed")
    undisturbed.run_undisturbed()
    origin.seconds = undisturbed.seconds
    return origin, undisturbed


def torture(
    kind: type[Place], tries: int, only: list[str], folder: Path, seed: int, write: bool
) -> list[dict]:
    """Do every fault `tries` times to places of one kind; the rows of the table."""
    chosen = [fault for name, fault in FAULTS.items() if kind in fault.places and (not only or name in only)]
    if not tries or not chosen:
        return []
    origin, undisturbed = prepared(kind, folder)
    rows = []
    for fault in chosen:
        saw, lost = [], []
        for number in range(tries):
            try:
                place = folder / f"{kind.__name__}-{fault.inflict.__name__}-{number}"
                outcome = endure(fault, origin, undisturbed, place, seed + number)
            except CannotBeDone as reason:
                print(f"{fault.name}, {kind.title}: not tried: {reason}", flush=True)
                break
            saw.append(outcome.saw)
            lost += outcome.lost
            print(f"{fault.name}, {kind.title}: {outcome.saw}", *outcome.lost, sep="\n    LOST ", flush=True)
        if saw:
            rows.append(table.entry(fault.name, kind.title, fault.remedy, saw, lost) | conditions(seed))
            if write:  # as it comes: the suite takes long, and may be cut off
                table.write({"faults": rows}, STORE, PAGE, SUITE)
    return rows


def conditions(seed: int) -> dict[str, object]:
    """What an outcome may depend on."""
    machine = f"{platform.system()}-{platform.machine()}, Python {platform.python_version()}"
    engine = {"engine_digest": provenance.engine_digest(), "version": __version__}
    return {"seed": seed, "machine": machine, **engine}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10, help="tries of each fault on one training job")
    parser.add_argument("--workflows", type=int, default=3, help="tries of each fault on Snakemake")
    parser.add_argument(
        "--kills", type=int, default=50, help="kills in one run of the study; 0 leaves it out"
    )
    parser.add_argument(
        "--fuzz", type=int, default=100_000, help="damaged files given to the readers; 0 leaves it out"
    )
    parser.add_argument("--study", default="digits", help="the study that is killed")
    parser.add_argument("--trial", default=None, help="shrink it, as --config trial= does")
    parser.add_argument("--only", nargs="+", default=[], choices=sorted(FAULTS), metavar="FAULT")
    parser.add_argument("--seed", type=int, default=0, help="of every random choice")
    parser.add_argument("--write", action="store_true", help="put the tables into the docs")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an orderly end: it ends what it started
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    result: dict = {
        "faults": [
            *torture(Job, given.jobs, given.only, folder, given.seed, given.write),
            *torture(Workflow, given.workflows, given.only, folder, given.seed, given.write),
        ],
        "kills": None,
        "fuzz": None,
    }
    if given.fuzz:
        found = fuzz_readers.fuzz(given.fuzz, given.seed)
        result["fuzz"] = fuzz_readers.entry(found, given.fuzz, given.seed) | conditions(given.seed)
        if given.write:  # the kills take long
            table.write({"faults": [], "fuzz": result["fuzz"]}, STORE, PAGE, SUITE)
    if given.kills:
        killed = kills.endure(folder, given.study, given.trial, given.kills, given.seed)
        result["kills"] = killed | conditions(given.seed)
    if given.write:
        table.write(result, STORE, PAGE, SUITE)
    print(table.markdown(result))
    lost = [text for row in [*result["faults"], *filter(None, [result["kills"]])] for text in row["lost"]]
    lost += result["fuzz"]["uncaught"] if result["fuzz"] else []
    if lost:
        sys.exit("\n".join([*lost[:20], f"{len(lost)} losses; what was left is in {folder}"]))


if __name__ == "__main__":
    main()
