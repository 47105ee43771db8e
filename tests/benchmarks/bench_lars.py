"""LARS against SGD and other implementations of LARS: the step alone on ResNet-50's tensors, and a whole step.

    PYTHONPATH=workflow/scripts python tests/benchmarks/bench_lars.py --threads 1 [--rounds 0] [--batch 128]

SGD is torch's default for the device, and fused, as the engine builds it. All cases share a process. Before each step
alone the gradients are written anew, as a backward pass does; that does not count. On a GPU steps are timed as Python
launches them, and from a CUDA graph. A record of the whole step stays beside those of other batches and threads.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from rangefinder.allocator import keep_freed_memory

keep_freed_memory()  # before torch allocates, as in a training job

import harness  # noqa: E402
import pytorch_optimizer  # noqa: E402
import timm.optim  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402
import workloads  # noqa: E402
from rangefinder import optimizers  # noqa: E402

SETTINGS = {"momentum": 0.9, "weight_decay": 5e-4}
BATCH = 32
LR = 1e-4  # small: the weights stay put however many rounds are run
FRESH: list[torch.Tensor] = []  # the gradients of every step alone


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
        on_gpu = named[0][1].device.type == "cuda"
        return optimizers.build({"name": name, **SETTINGS, **options}, named, lr=LR, capturable=on_gpu)

    return make


def theirs(kind: type, **options: object) -> Callable:
    def make(named: list) -> torch.optim.Optimizer:
        return kind([p for _, p in named], lr=LR, **SETTINGS, **options)

    return make


OPTIMIZERS: dict[str, Callable] = {
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
CAPTURED = ("SGD foreach", "SGD fused", "LARS", "LARS foreach", "LARSWriteUp")  # those that read nothing back
WHOLE_STEP_CAPTURED = ("SGD fused", "LARS", "LARSWriteUp")


def alone(make: Callable, *, graph: bool = False) -> harness.Case:
    """The optimizer's step on the 161 tensors of ResNet-50."""

    def setup(options: argparse.Namespace) -> harness.Prepared:
        torch.manual_seed(0)
        named = list(torchvision.models.resnet50().to(options.device).named_parameters())
        if not FRESH:
            FRESH.extend(torch.randn_like(p) * 0.01 for _, p in named)
        for _, p in named:
            p.grad = torch.empty_like(p)

        def write_gradients() -> None:
            for (_, p), gradient in zip(named, FRESH, strict=True):
                p.grad.copy_(gradient)

        write_gradients()
        step = make(named).step
        return harness.Prepared(write_gradients, workloads.captured(step) if graph else step)

    return setup


def whole_steps(options: argparse.Namespace) -> dict[str, harness.Case]:
    """Forward, backward and update of one ResNet-50 on images of 32×32."""
    torch.manual_seed(0)
    model = torchvision.models.resnet50().to(options.device).train()
    images = torch.randn(options.batch, 3, 32, 32, device=options.device)
    labels = torch.randint(1000, (options.batch,), device=options.device)

    def step(optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    def case(name: str, *, graph: bool = False) -> harness.Case:
        optimizer = OPTIMIZERS[name](list(model.named_parameters()))

        def work() -> None:
            step(optimizer)

        return lambda options: workloads.captured(work) if graph else work

    cases = {name: case(name) for name in WHOLE_STEP}
    if options.device == "cuda":
        cases |= {f"{name}, captured": case(name, graph=True) for name in WHOLE_STEP_CAPTURED}
    return cases


def main() -> None:
    parser = harness.parser(__doc__, rounds=25)  # of the step alone; 0 leaves it out
    parser.add_argument(
        "--whole-rounds", type=int, default=25, help="rounds of the whole step; 0 leaves it out"
    )
    parser.add_argument("--batch", type=int, default=BATCH, help="images in the whole step")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ratio, peers = harness.Ratio, ["timm", "pytorch_optimizer"]
    on_gpu = options.device == "cuda"
    sgd, limits = ("SGD foreach", (1.3, 0.3)) if on_gpu else ("SGD", (1.1, 1.0))
    cases = {name: alone(make) for name, make in OPTIMIZERS.items()}
    ratios = [
        ratio(f"LARS over {sgd}", "LARS", sgd, most=limits[0]),
        ratio("LARS over a naive loop", "LARS", "naive LARS", most=limits[1]),
        ratio("LARS over fused SGD", "LARS", "SGD fused"),
        ratio("LARS over timm's", "LARS", "timm Lars"),
        ratio("LARS over pytorch-optimizer's", "LARS", "pytorch_optimizer LARS"),
    ]
    if on_gpu:
        cases |= {f"{name}, captured": alone(OPTIMIZERS[name], graph=True) for name in CAPTURED}
        ratios += [
            ratio("LARS over SGD by foreach, captured", "LARS, captured", "SGD foreach, captured", most=1.3),
            ratio("LARS over fused SGD, captured", "LARS, captured", "SGD fused, captured"),
            ratio("LARS over its multi-tensor form, captured", "LARS, captured", "LARS foreach, captured"),
        ]
    if options.rounds:
        harness.main(
            "lars-alone",
            "LARS alone, on the 161 tensors of ResNet-50",
            "step",
            cases,
            ratios,
            options,
            workers=False,
            packages=peers,
        )
    if options.whole_rounds:
        options.rounds = options.whole_rounds
        captured = [
            ratio(
                "step with LARS over one with fused SGD, captured",
                "LARS, captured",
                "SGD fused, captured",
                most=1.02,
            ),
            ratio("step with SGD not captured over captured", "SGD fused", "SGD fused, captured"),
        ]
        harness.main(
            "lars-step",
            "Training step of ResNet-50 with LARS",
            "step",
            whole_steps(options),
            [
                ratio("step with LARS over one with SGD", "LARS", "SGD", most=1.02),
                # On a GPU runs are captured: there the bound is on the captured steps.
                ratio(
                    "step with LARS over one with fused SGD",
                    "LARS",
                    "SGD fused",
                    most=None if on_gpu else 1.02,
                ),
                ratio("step with a naive LARS over one with SGD", "naive LARS", "SGD"),
                *(captured if on_gpu else []),
            ],
            options,
            workers=False,
            settings={"batch": options.batch},
        )


if __name__ == "__main__":
    main()
