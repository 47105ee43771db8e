"""Synthetic sweeps whose best LR, or whose stability threshold, is known by construction."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

TRAINING_STEPS = 1000  # of the constant-LR training whose result decides what the best LR is
SHAPES = ("plain", "early_spikes", "plateau", "late_nan", "tail")
NOISES = (0.0, 0.03, 0.1, 0.3)
SWEEP_STEPS = (100, 200, 350, 700)
SEEDS = {0: "tuned", 1: "reported", 2: "tuned", 3: "reported", 4: "fresh", 5: "fresh"}


@dataclass(frozen=True)
class Law:
    """A law of training that gives both a sweep's losses and the result of training at one LR.

    Below the threshold the loss falls with the progress s, the sum of rate × LR over the steps, as
    ``floor + fall / (1 + max(0, s − plateau))^power``, to which the gradient noise adds
    ``fall · jitter · (LR/threshold)²``. Above it, an instability grows from ``10⁻⁴ fall`` by
    ``(2·LR/threshold − 1)²`` per step, as on a quadratic.
    """

    threshold: float
    rate: float
    power: float
    floor: float
    fall: float
    jitter: float
    plateau: float

    def trained(self, lr: np.ndarray) -> np.ndarray:
        """Loss after training `TRAINING_STEPS` steps at each LR; infinite above the threshold."""
        progress = np.maximum(0, self.rate * lr * TRAINING_STEPS - self.plateau)
        loss = self.floor + self.fall * (
            (1 + progress) ** -self.power + self.jitter * (lr / self.threshold) ** 2
        )
        return np.where(lr < self.threshold, loss, np.inf)

    def swept(self, lr: np.ndarray) -> np.ndarray:
        """Losses of a sweep [steps], without noise."""
        progress = np.concatenate([[0], np.cumsum(self.rate * lr)[:-1]])
        loss = self.floor + self.fall * (1 + np.maximum(0, progress - self.plateau)) ** -self.power
        loss = loss + self.fall * self.jitter * np.minimum(1, lr / self.threshold) ** 2
        unstable = np.log(1e-4 * self.fall)
        grown = np.zeros(len(lr))
        for step in range(len(lr)):
            grown[step] = np.exp(min(unstable, 60.0))
            if lr[step] > self.threshold:
                unstable += 2 * np.log(2 * lr[step] / self.threshold - 1)
        return loss + np.where(lr > self.threshold, grown, 0)


@dataclass(frozen=True)
class Check:
    """One synthetic sweep and the law behind it."""

    name: str
    group: str  # the checks that differ in the sweep's steps only
    shape: str
    steps: int
    part: str  # "tuned", "reported" or "fresh"
    lr: np.ndarray
    loss: np.ndarray
    law: Law

    def hit(self, lr: float | None) -> bool:
        """Whether training at this LR comes within 5 % of the possible fall of the best."""
        if lr is None or not np.isfinite(lr):
            return False
        grid = self.law.threshold * 10.0 ** np.arange(-5, 0, 0.01)
        best = self.law.trained(grid).min()
        return bool(
            self.law.trained(np.array([lr]))[0] <= best + 0.05 * (self.law.floor + self.law.fall - best)
        )


def make_check(shape: str, noise: float, steps: int, seed: int) -> Check:
    """One sweep of seven decades; everything but the noise is the same for every number of steps."""
    law_random = np.random.default_rng([SHAPES.index(shape), NOISES.index(noise), seed])
    threshold = 10 ** law_random.uniform(-3, 0)
    law = Law(
        threshold=threshold,
        rate=10 ** law_random.uniform(-0.3, 0.7) / threshold,
        power=law_random.uniform(0.4, 1.5),
        floor=law_random.uniform(0, 0.3),
        fall=law_random.uniform(1, 3),
        jitter=10 ** law_random.uniform(-3, -1),
        plateau=law_random.uniform(1, 3) if shape == "plateau" else 0.0,
    )
    start = threshold * 10 ** law_random.uniform(-5.5, -5)
    lr = start * 10 ** (7 * np.arange(steps) / (steps - 1))
    random = np.random.default_rng([SHAPES.index(shape), NOISES.index(noise), seed, steps])
    loss = law.swept(lr)
    if shape == "tail":  # collapses to chance after the explosion, then wanders below it
        top = np.flatnonzero(loss > 3 * loss[0])
        if len(top):
            fade = np.arange(len(lr) - top[0])
            loss[top[0] :] = loss[0] * (1 + 2 * np.exp(-fade / 5) - 0.5 * (1 - np.exp(-fade / 20)))
    loss = loss * np.exp(noise * random.normal(size=steps))
    if shape == "early_spikes":
        loss[random.choice(steps // 5, size=max(2, steps // 50), replace=False)] *= random.uniform(3, 20)
    if shape == "late_nan":
        bad = lr > law.threshold * 10 ** law_random.uniform(0.3, 0.6)
        loss[bad] = np.nan
    group = f"{shape}-noise{noise:g}-seed{seed}"
    return Check(f"{group}-{steps}", group, shape, steps, SEEDS[seed], lr, loss, law)


def checks() -> list[Check]:
    """All synthetic checks; the seed says which part one belongs to."""
    return [make_check(*case) for case in itertools.product(SHAPES, NOISES, SWEEP_STEPS, SEEDS)]


@dataclass(frozen=True)
class Quadratic:
    """A range test on a noisy quadratic ``½ wᵀ H w``, whose stability threshold is ``2 (1 + μ) / λ_max``."""

    lr: np.ndarray
    loss: np.ndarray
    threshold: float
    momentum: float
    noise: float


def make_quadratic(seed: int, *, momentum: float | None = None, steps_per_decade: int = 50) -> Quadratic:
    """Sweep heavy-ball SGD over a random quadratic, as `range_test` does, until its loss explodes.

    Random are the dimension (10–100), λ_max, the spectrum (log-uniform over 1 to 3 decades), the start point, the
    momentum (0, 0.5, 0.9 or 0.95 unless given), the gradient's noise and the measured loss's.
    """
    random = np.random.default_rng(seed)
    size = int(random.integers(10, 101))
    largest = 10 ** random.uniform(-1, 2)
    curvature = largest * 10 ** (-random.uniform(1, 3) * random.uniform(0, 1, size))
    curvature[0] = largest
    drawn = float(random.choice([0.0, 0.0, 0.5, 0.9, 0.95]))
    momentum = drawn if momentum is None else momentum
    noise = float(random.choice([0.0, 0.01, 0.1, 0.5]))
    loss_noise = float(random.choice([0.0, 0.02, 0.1]))
    threshold = 2 * (1 + momentum) / largest
    start, end = threshold * 10 ** -random.uniform(3.5, 4.5), threshold * 10 ** random.uniform(1, 1.5)
    steps = int(np.ceil(steps_per_decade * np.log10(end / start))) + 1
    lr = start * (end / start) ** (np.arange(steps) / (steps - 1))
    w = random.normal(size=size) * 10 ** random.uniform(-0.5, 0.5)
    velocity = np.zeros(size)
    initial = 0.5 * np.sum(curvature * w**2)
    scale = 0.3 * noise * np.sqrt(2 * curvature * initial / size)
    loss = np.empty(steps)
    for step in range(steps):
        loss[step] = 0.5 * np.sum(curvature * w**2) * (1 + loss_noise * random.normal())
        if step >= 4 and loss[step - 4 : step + 1].min() > 4 * initial:
            lr, loss = lr[: step + 1], loss[: step + 1]
            break
        velocity = momentum * velocity + curvature * w + scale * random.normal(size=size)
        w = w - lr[step] * velocity
    return Quadratic(lr, loss, threshold, momentum, noise)
