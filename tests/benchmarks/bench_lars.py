"""LARS against SGD and other implementations of LARS: the step alone on ResNet-50's tensors, and a whole step.

    PYTHONPATH=workflow/scripts python tests/benchmarks/bench_lars.py results/bench-lars.json --threads 1 2

Every round times all cases one after another in one process, so that a ratio compares neighbours in time; the
figures are medians and quartiles over rounds, of times and of each round's ratios.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from rangefinder.allocator import keep_freed_memory

keep_freed_memory()  # before torch allocates, as in a training job

import pytorch_optimizer  # noqa: E402
import timm.optim  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402
from rangefinder import optimizers  # noqa: E402

BASELINES = ("SGD", "SGD fused")  # torch's default, and the one the engine chooses on a CPU
SETTINGS = {"momentum": 0.9, "weight_decay": 5e-4}
LR = 1e-4  # small: the weights stay put however many rounds are run


class NaiveLARS(torch.optim.Optimizer):
    """Algorithm 1 as most training scripts have it: tensor by tensor, reading both norms."""

    def __init__(self, params, lr: float, momentum: float, weight_decay: float, eta: float = 0.001) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "eta": eta})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                weight_norm, grad_norm = p.norm(), p.grad.norm()
                trust = 1.0
                if weight_norm > 0 and grad_norm > 0:
                    trust = group["eta"] * weight_norm / (grad_norm + group["weight_decay"] * weight_norm)
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                update = (p.grad + group["weight_decay"] * p) * (group["lr"] * trust)
                state["momentum_buffer"].mul_(group["momentum"]).add_(update)
                p.sub_(state["momentum_buffer"])


def ours(name: str, **options: object) -> Callable:
    def make(named: list) -> torch.optim.Optimizer:
        return optimizers.build({"name": name, **SETTINGS, **options}, named, lr=LR)

    return make


def theirs(kind: type, **options: object) -> Callable:
    def make(named: list) -> torch.optim.Optimizer:
        return kind([p for _, p in named], lr=LR, **SETTINGS, **options)

    return make


CASES: dict[str, Callable] = {
    "SGD": theirs(torch.optim.SGD),
    "SGD fused": theirs(torch.optim.SGD, fused=True),
    "SGD foreach": theirs(torch.optim.SGD, foreach=True),
    "LARS": ours("LARS"),
    "LARS foreach": ours("LARS", foreach=True),
    "LARS, vectors not adapted": ours(
        "LARS", exclude_from_adaptation=["bias", "norm"], exclude_from_weight_decay=["bias", "norm"]
    ),
    "LARSWriteUp": ours("LARSWriteUp"),
    "naive LARS": theirs(NaiveLARS),
    "timm Lars": theirs(timm.optim.Lars),
    "pytorch_optimizer LARS": theirs(pytorch_optimizer.LARS),
    "pytorch_optimizer LARS, per tensor": theirs(pytorch_optimizer.LARS, foreach=False),
}
WHOLE_STEP = ("SGD", "SGD fused", "LARS", "naive LARS")


def parameters(device: torch.device) -> list[tuple[str, torch.nn.Parameter]]:
    """ResNet-50's 161 tensors with gradients."""
    torch.manual_seed(0)
    named = list(torchvision.models.resnet50().to(device).named_parameters())
    for _, p in named:
        p.grad = torch.randn_like(p) * 0.01
    return named


def interleaved(cases: dict[str, Callable[[], None]], before: Callable, rounds: int, wait: Callable) -> dict:
    """Times [ms] of every case in each of `rounds` rounds, after two that do not count."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 2):
        for name, run in cases.items():
            before(name)
            wait()
            start = time.perf_counter()
            run()
            wait()
            if number >= 2:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {
        name: {
            "ms": spread(found),
            "ratio_to": {
                base: spread([a / b for a, b in zip(found, times[base], strict=True)]) for base in BASELINES
            },
        }
        for name, found in times.items()
    }


def spread(values: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": round(median, 4), "q1": round(low, 4), "q3": round(high, 4)}


def optimizer_alone(device: torch.device, rounds: int, wait: Callable) -> dict:
    """The step alone; gradients are written anew before each, as a backward pass does."""
    fresh = [p.grad.clone() for _, p in parameters(device)]
    named = {name: parameters(device) for name in CASES}
    made = {name: make(named[name]) for name, make in CASES.items()}

    def before(name: str) -> None:
        for (_, p), g in zip(named[name], fresh, strict=True):
            p.grad.copy_(g)

    return interleaved({name: optimizer.step for name, optimizer in made.items()}, before, rounds, wait)


def whole_step(device: torch.device, rounds: int, wait: Callable, batch: int) -> dict:
    """Forward, backward and update of ResNet-50 on `batch` images of 32×32."""
    torch.manual_seed(0)
    model = torchvision.models.resnet50().to(device).train()
    images = torch.randn(batch, 3, 32, 32, device=device)
    labels = torch.randint(1000, (batch,), device=device)

    def step(optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    made = {name: CASES[name](list(model.named_parameters())) for name in WHOLE_STEP}
    cases = {name: lambda optimizer=optimizer: step(optimizer) for name, optimizer in made.items()}
    return interleaved(cases, lambda name: None, rounds, wait)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="JSON file to write")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts on a CPU")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument(
        "--whole-rounds", type=int, default=25, help="rounds of the whole step; 0 leaves it out"
    )
    parser.add_argument("--batch", type=int, default=32, help="images in the whole step")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    on_gpu = device.type == "cuda"
    wait = torch.cuda.synchronize if on_gpu else lambda: None
    results = []
    for threads in [1] if on_gpu else options.threads:
        torch.set_num_threads(threads)
        result = {"threads": threads, "optimizer_alone": optimizer_alone(device, options.rounds, wait)}
        if options.whole_rounds:
            result["whole_step"] = whole_step(device, options.whole_rounds, wait, options.batch)
        results.append(result)
        for part in ("optimizer_alone", "whole_step"):
            for name, found in result.get(part, {}).items():
                ratios = "  ".join(
                    f"×{ratio['median']:.3f} [{ratio['q1']:.3f}–{ratio['q3']:.3f}] {base}"
                    for base, ratio in found["ratio_to"].items()
                )
                ms = found["ms"]
                times = f"{ms['median']:9.2f} ms [{ms['q1']:.2f}–{ms['q3']:.2f}]"
                print(f"{threads} threads  {part:15s}  {name:35s} {times}  {ratios}")
    record = {
        "format": 1,
        "benchmark": "lars",
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.processor() or "cpu",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": timm.__version__,
            "pytorch_optimizer": version("pytorch_optimizer"),
        },
        "rounds": {"optimizer_alone": options.rounds, "whole_step": options.whole_rounds},
        "batch": options.batch,
        "results": results,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
