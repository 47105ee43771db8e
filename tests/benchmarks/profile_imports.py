"""What a training job imports, package by package, and what it would if torch's optimizers imported torch's compiler.

    PYTHONPATH=workflow/scripts python tests/benchmarks/profile_imports.py [--record]

By Python's own `-X importtime`, which takes some time itself: what counts is the difference.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import harness
import table

JOB = """
from rangefinder import in_turn, optimizers
import torch
layer = torch.nn.Linear(1, 1)
made = optimizers.build({"name": "Adam"}, layer.named_parameters(), lr=0.1)
layer(torch.ones(1, 1)).sum().backward()
made.step()
"""
NOT_SPARED = "from rangefinder import without_compiler\nwithout_compiler.spare_optimizers = lambda: None\n"
CASES = {"a job": JOB, "with torch's compiler": NOT_SPARED + JOB}
PACKAGES = ("torch", "sympy", "triton", "numpy", "rangefinder")
PYTHON, OTHERS, TOTAL = "Python's own modules", "all others", "all imports"


def imported(code: str) -> dict[str, float]:
    """Milliseconds that the imports of a program take, by package."""
    command = [sys.executable, "-X", "importtime", "-c", code]
    return split(subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True).stderr)


def split(log: str) -> dict[str, float]:
    """The same from what `-X importtime` writes: a line "import time: own µs | with inner ones | module" for each."""
    spent = dict.fromkeys([*PACKAGES, PYTHON, OTHERS], 0.0)
    for line in log.splitlines():
        own, _, module = line.removeprefix("import time:").rpartition("|")
        own = own.partition("|")[0].strip()
        if not line.startswith("import time:") or not own.isdigit():
            continue  # the heading, or what the program itself writes
        package = module.strip().partition(".")[0]
        if package not in PACKAGES:
            package = PYTHON if package in sys.stdlib_module_names else OTHERS
        spent[package] += int(own) / 1000
    return spent | {TOTAL: sum(spent.values())}


def main() -> None:
    parser = harness.parser(__doc__, rounds=5, warm_up=1)
    options = parser.parse_args()
    if options.device != "cpu":
        parser.error("imports have no device")
    with harness.conditions("What a training job imports", options) as entry:
        runs = {name: partial(imported, code) for name, code in CASES.items()}
        rounds = harness.interleave(runs, options.rounds, options.warm_up)
    entry |= {"unit": "ms"}
    entry |= harness.profiled(rounds, {"what is saved": ("with torch's compiler", "a job")}, TOTAL)
    print("\n".join(table.profile(entry)))
    if options.record:
        name = harness.key("imports", entry["settings"], options.device)
        harness.keep(name, entry, options.device, part="profiles")


if __name__ == "__main__":
    main()
