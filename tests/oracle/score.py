"""Score our LR range and the other finders' rules on all of the oracle suite.

    python tests/oracle/score.py            print the tables
    python tests/oracle/score.py --write    put them into docs/lr-range.md

Everything is computed from code and from `recorded/`, in well under a minute.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "workflow" / "scripts")]

import synthetic  # noqa: E402
from rangefinder import lr_range  # noqa: E402
from rangefinder.finder_rules import RULES  # noqa: E402

DOCUMENT = HERE.parents[1] / "docs" / "lr-range.md"
BEGIN, END = "<!-- score table: begin -->", "<!-- score table: end -->"
PARTS = ("tuned", "reported", "fresh")
SPEEDS = (100, 350, 1400)  # steps of the real sweeps, all over seven decades
TOLERANCE = 0.01  # of accuracy, below the best of the grid

Rule = Callable[[np.ndarray, np.ndarray], float | None]
FINDERS: dict[str, tuple[str, Rule]] = {
    "ours": ("**rangefinder**", lambda lr, loss: lr_range.extract_one(lr, loss).suggested_lr),
    **{name: (rule.title, rule.function) for name, rule in RULES.items()},
}


@dataclass(frozen=True)
class RealCheck:
    """One recorded sweep of a real problem, and what training at each LR gave there."""

    problem: str
    steps: int
    seed: int
    part: str  # "tuned", "reported" or "fresh"
    lr: np.ndarray  # [steps]
    loss: np.ndarray  # [steps]
    grid: np.ndarray  # [LRs] trained at
    accuracy: np.ndarray  # [LRs] validation accuracy, mean over seeds

    @property
    def group(self) -> str:
        return f"{self.problem}-seed{self.seed}"

    def reached(self, lr: float) -> float:
        """Accuracy at an LR, interpolated in log(LR) between the grid's; 0 outside the grid."""
        return float(np.interp(math.log(lr), np.log(self.grid), self.accuracy, left=0.0, right=0.0))

    def hit(self, lr: float | None) -> bool:
        """Whether training at this LR comes within a point of accuracy of the best."""
        return lr is not None and self.reached(lr) >= self.accuracy.max() - TOLERANCE

    @property
    def trainable(self) -> float:
        """The end of the LRs, from the best one upwards, that train to within ten points of it.

        Midway, in log(LR), between the last grid LR that does and the first that does not.
        """
        last = int(self.accuracy.argmax())
        while last + 1 < len(self.grid) and self.accuracy[last + 1] >= self.accuracy.max() - 0.1:
            last += 1
        return float(self.grid[last] * math.sqrt(self.grid[1] / self.grid[0]))


def real_checks() -> list[RealCheck]:
    """All recorded sweeps.

    Tuned and reported half are a chequerboard over data set, model, optimizer and batch sizes 32 and 128; batch size 64
    is the fresh part.
    """
    truth = json.loads((HERE / "recorded" / "truth.json").read_text())
    sweeps = np.load(HERE / "recorded" / "sweeps.npz")
    problems = {problem["name"]: problem for problem in truth["problems"]}
    models = ("mlp", "lenet", "bncnn")
    checks = []
    for key in sweeps.files:
        name, steps, seed = key.split("/")
        problem = problems[name]
        cell = (
            (problem["dataset"] == "mnist")
            + models.index(problem["model"])
            + (problem["optimizer"] == "adam")
            + (problem["batch_size"] == 128)
        )
        ratio = truth["end_lr"] / truth["start_lr"]
        lr = truth["start_lr"] * ratio ** (np.arange(int(steps)) / (int(steps) - 1))
        accuracy = np.mean(problem["validation_accuracy"], axis=1)
        checks.append(
            RealCheck(
                name,
                int(steps),
                int(seed),
                "fresh" if problem["batch_size"] == 64 else ("tuned", "reported")[cell % 2],
                lr,
                sweeps[key].astype(np.float64),
                np.array(problem["lr"]),
                accuracy,
            )
        )
    return checks


@cache
def scores() -> dict[str, dict[str, float]]:
    """Per finder, for each part: hits, number of checks, and shifts in decades between the sweep's speeds."""
    suites = {"synthetic": synthetic.checks(), "real": real_checks()}
    table = {}
    for name, (_, rule) in FINDERS.items():
        row = {}
        for suite, checks in suites.items():
            answers = {(check.group, check.steps): rule(check.lr, check.loss) for check in checks}
            for part in PARTS:
                chosen = [check for check in checks if check.part == part]
                groups = sorted({check.group for check in chosen})
                for steps in SPEEDS if suite == "real" else ():
                    same = [check for check in chosen if check.steps == steps]
                    right = sum(check.hit(answers[check.group, steps]) for check in same)
                    row[f"real_{part}_share_{steps}"] = right / len(same)
                shifts = [_shift(answers[group, 100], answers[group, 350]) for group in groups]
                row |= {
                    f"{suite}_{part}_checks": len(chosen),
                    f"{suite}_{part}_hits": sum(
                        check.hit(answers[check.group, check.steps]) for check in chosen
                    ),
                    f"{suite}_{part}_shift": float(np.median(shifts)),
                    f"{suite}_{part}_shift_90": float(np.quantile(shifts, 0.9, method="higher")),
                }
        table[name] = row
    return table


def _shift(first: float | None, second: float | None) -> float:
    """Distance in decades; infinite where either is not a number."""
    return math.inf if first is None or second is None else abs(math.log10(first / second))


@cache
def quadratics(momentum: float | None) -> dict[str, float]:
    """lr_max over the true threshold on 100 random quadratics, and the naive answer: the LR at the least loss."""
    drawn = [synthetic.make_quadratic(seed, momentum=momentum) for seed in range(1000, 1100)]
    found = [lr_range.extract_one(one.lr, one.loss).lr_max for one in drawn]
    ours = np.array(
        [math.nan if lr is None else lr / one.threshold for lr, one in zip(found, drawn, strict=True)]
    )
    naive = np.array([one.lr[np.argmin(one.loss)] / one.threshold for one in drawn])
    return {
        "within": int(np.sum(np.abs(np.log(ours)) <= math.log(1.5))),
        "naive_within": int(np.sum(np.abs(np.log(naive)) <= math.log(1.5))),
        "low": float(np.nanquantile(ours, 0.05)),
        "median": float(np.nanmedian(ours)),
        "high": float(np.nanquantile(ours, 0.95)),
    }


def trainable() -> dict[str, np.ndarray]:
    """lr_max over the end of the trainable LRs, on the real sweeps not tuned on; by number of steps."""
    ratios: dict[str, list[float]] = {}
    for check in real_checks():
        if check.part != "tuned":
            found = lr_range.extract_one(check.lr, check.loss).lr_max
            ratios.setdefault(str(check.steps), []).append(
                math.nan if found is None else found / check.trainable
            )
    return {steps: np.array(values) for steps, values in ratios.items()}


def report() -> str:
    """The tables of docs/lr-range.md, as Markdown."""
    table = scores()
    some = table["ours"]
    lines = [
        f"Hits of `suggested_lr`, in %, over {some['synthetic_reported_checks']} synthetic and "
        f"{some['real_reported_checks']} real checks of the **reported** half; beside them, on the half the "
        f"rule was tuned on ({some['synthetic_tuned_checks']} and {some['real_tuned_checks']} checks). Shift: "
        "how far, in decades, the answer moves from a sweep of 100 steps to one of 350 on the same problem "
        "(median, and 90 % quantile; ∞ where a sweep had no answer), on the reported half.",
        "",
        "| rule | synthetic | real | synthetic (tuned) | real (tuned) | shift, synthetic | shift, real |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, (title, _) in FINDERS.items():
        row = table[name]
        cells = _hits(row, "reported") + _hits(row, "tuned") + _shifts(row, "reported")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines += [
        "",
        _winners(table, "reported"),
        "",
        f"The same on the **fresh** part: {some['synthetic_fresh_checks']} synthetic checks with other seeds, and "
        f"{some['real_fresh_checks']} real ones with another batch size.",
        "",
        "| rule | synthetic | real | shift, synthetic | shift, real |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, (title, _) in FINDERS.items():
        row = table[name]
        lines.append(f"| {title} | {' | '.join(_hits(row, 'fresh') + _shifts(row, 'fresh'))} |")
    lines += [
        "",
        _winners(table, "fresh"),
        "",
        "Real hits of `suggested_lr`, in %, by the speed of the sweep:",
        "",
        "| steps per decade | reported | fresh | tuned |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for steps in SPEEDS:
        cells = [f"{100 * some[f'real_{part}_share_{steps}']:.0f}" for part in ("reported", "fresh", "tuned")]
        lines.append(f"| {steps / 7:.0f} | {' | '.join(cells)} |")
    lines.append("")
    lines += [
        "`lr_max` over the true threshold, 100 random quadratics each (50 steps per decade):",
        "",
        "| momentum μ | threshold | within × / ÷ 1.5 | 5 % | median | 95 % | LR at the least loss: within |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for momentum, label, threshold in (
        (0.0, "0", "2 / λ_max"),
        (0.9, "0.9", "2 (1 + μ) / λ_max"),
        (None, "0 (2 of 5), 0.5, 0.9, 0.95", "2 (1 + μ) / λ_max"),
    ):
        found = quadratics(momentum)
        lines.append(
            f"| {label} | {threshold} | {found['within']} | {found['low']:.2f} | {found['median']:.2f} | "
            f"{found['high']:.2f} | {found['naive_within']} |"
        )
    lines += [
        "",
        "`lr_max` over the largest LR that still trains to within ten points of the best accuracy, real sweeps "
        "of the reported half and the fresh part:",
        "",
        "| steps of the sweep | sweeps | 10 % | median | 90 % |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for steps, ratios in trainable().items():
        low, middle, high = np.nanquantile(ratios, [0.1, 0.5, 0.9])
        lines.append(f"| {steps} | {len(ratios)} | {low:.2f} | {middle:.2f} | {high:.2f} |")
    return "\n".join(lines)


def _hits(row: dict[str, float], part: str) -> list[str]:
    return [
        f"{100 * row[f'{suite}_{part}_hits'] / row[f'{suite}_{part}_checks']:.1f}"
        for suite in ("synthetic", "real")
    ]


def _shifts(row: dict[str, float], part: str) -> list[str]:
    return [
        f"{_number(row[f'{suite}_{part}_shift'])} ({_number(row[f'{suite}_{part}_shift_90'])})"
        for suite in ("synthetic", "real")
    ]


def _number(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.2f}"


def _winners(table: dict[str, dict[str, float]], part: str) -> str:
    """A sentence that names every column of a part in which another rule is ahead of ours."""
    columns = {
        f"{suite} {label}": (f"{suite}_{part}_{key}", sign)
        for label, key, sign in (
            ("hits", "hits", -1),
            ("shift", "shift", 1),
            ("shift, 90 % quantile", "shift_90", 1),
        )
        for suite in ("synthetic", "real")
    }
    ahead = []
    for label, (key, sign) in columns.items():
        better = [FINDERS[name][0] for name in RULES if sign * table[name][key] < sign * table["ours"][key]]
        if better:
            ahead.append(f"{label}: {', '.join(better)}")
    return (
        f"Another rule is ahead in: {'; '.join(ahead)}." if ahead else "No other rule is ahead in any column."
    )


def documented() -> str:
    """What docs/lr-range.md has between the markers."""
    return DOCUMENT.read_text().split(BEGIN)[1].split(END)[0].strip()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="rewrite the tables in docs/lr-range.md")
    text = report()
    if parser.parse_args().write:
        before, rest = DOCUMENT.read_text().split(BEGIN)
        DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")
    print(text)


if __name__ == "__main__":
    main()
