"""Optimizers by name: torch's own with the fastest kernel of the device, LARS, LAMB, or a user's function."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from . import user_code, without_compiler
from .errors import InputError
from .lamb import LAMB
from .lars import LARS, LARSWriteUp

# What a training loop of one forward and one backward pass with dense gradients cannot drive.
_NEED_ANOTHER_LOOP = {"Optimizer", "LBFGS", "SparseAdam"}
# Set here, not by a study: they change nothing about the result, or follow from other settings.
_NOT_A_SETTING = {"params", "lr", "capturable", "differentiable", "maximize"}

_FUSED_ON_CPUS_ALONE = {"Adagrad"}

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    **{
        name: kind
        for name, kind in sorted(vars(torch.optim).items())
        if inspect.isclass(kind)
        and issubclass(kind, torch.optim.Optimizer)
        and name not in _NEED_ANOTHER_LOOP
    },
    "LAMB": LAMB,
    "LARS": LARS,
    "LARSWriteUp": LARSWriteUp,
}

# Which parameters an exclusion names: the tensors of at most one dimension, biases and the rest of them.
EXCLUSIONS: dict[str, Callable[[str, torch.Tensor], bool]] = {
    "bias": lambda name, tensor: tensor.ndim <= 1 and name.rpartition(".")[2] == "bias",
    "norm": lambda name, tensor: tensor.ndim <= 1 and name.rpartition(".")[2] != "bias",
}


def build(
    spec: Mapping[str, Any],
    named_parameters: Iterable[tuple[str, torch.nn.Parameter]],
    *,
    lr: float,
    capturable: bool = False,
) -> torch.optim.Optimizer:
    """The optimizer a study names.

    Args:
        spec: ``name``, one of `OPTIMIZERS` or ``path/file.py:function``, and its arguments. With every name
            but a user's function, ``exclude_from_weight_decay``, and with LARS and LAMB also
            ``exclude_from_adaptation``, list the parameters left out: ``bias`` (tensors of at most one
            dimension called bias), ``norm`` (all others of at most one dimension).
        named_parameters: names and parameters, as `torch.nn.Module.named_parameters` gives them. Those that
            need no gradient are left out.
        lr: the learning rate to start with.
        capturable: keep the LR in a tensor on the parameters' device, so that a CUDA graph that has captured
            ``step()`` follows `set_lr`.

    Raises:
        InputError: unknown name or argument, or a value the optimizer refuses.
    """
    without_compiler.spare_optimizers()
    # source_digest only tells apart versions of the user's file.
    arguments = {key: value for key, value in spec.items() if key not in ("name", "source_digest")}
    name = spec.get("name")
    named = [(label, parameter) for label, parameter in named_parameters if parameter.requires_grad]
    if not named:
        raise InputError("the model has no parameters to train", key="optimizer.name", value=name)
    if user_code.is_reference(name):
        return _from_user(name, [parameter for _, parameter in named], lr, arguments)
    if name not in OPTIMIZERS:
        allowed = [*OPTIMIZERS, "path/file.py:function"]
        raise InputError("unknown optimizer", key="optimizer.name", value=name, allowed=allowed)
    kind = OPTIMIZERS[name]
    signature = inspect.signature(kind).parameters
    settings = [key for key in signature if key not in _NOT_A_SETTING and key != "adapt"]
    exclusions = {"exclude_from_weight_decay": "weight_decay", "exclude_from_adaptation": "adapt"}
    offered = [key for key, argument in exclusions.items() if argument in signature]
    for key in arguments:
        if key == "lr":
            raise InputError("the LR is a setting of the run, not of the optimizer", key="optimizer.lr")
        if key not in settings + offered:
            raise InputError(
                f"{name} has no such argument", key=f"optimizer.{key}", value=key, allowed=settings + offered
            )
    excluded = {exclusions[key]: _exclusion(arguments.pop(key, None), f"optimizer.{key}") for key in offered}
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    _choose_kernel(name, arguments, signature, [parameter for _, parameter in named])
    if capturable:
        _make_capturable(name, arguments, signature)
    groups = _groups(named, excluded)
    try:
        for group in groups:
            group["lr"] = _lr_tensor(lr, kind, named[0][1]) if capturable else float(lr)
        made = kind(groups, **({"lr": group["lr"]} | arguments))
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        raise InputError(
            f"{name} refuses its arguments ({error})", key="optimizer", value=dict(spec)
        ) from error
    # torch warns once of a capturable optimizer that steps outside of a graph; its first steps always do.
    made._warned_capturable_if_run_uncaptured = True
    return made


def _exclusion(names: Any, key: str) -> tuple[str, ...]:
    names = [names] if isinstance(names, str) else (names or [])
    if not isinstance(names, list | tuple):
        raise InputError("is not a list", key=key, value=names, allowed=EXCLUSIONS)
    for name in names:
        if name not in EXCLUSIONS:
            raise InputError("unknown kind of parameter", key=key, value=name, allowed=EXCLUSIONS)
    return tuple(names)


def _groups(
    named: list[tuple[str, torch.nn.Parameter]], excluded: Mapping[str, tuple[str, ...]]
) -> list[dict[str, Any]]:
    """Parameter groups by what they are excluded from, in the order of their first parameters."""
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for label, parameter in named:
        left_out = tuple(
            argument
            for argument, names in excluded.items()
            if any(EXCLUSIONS[name](label, parameter) for name in names)
        )
        group = groups.setdefault(left_out, {"params": []})
        group["params"].append(parameter)
        group |= {argument: False if argument == "adapt" else 0.0 for argument in left_out}
    return list(groups.values())


def _choose_kernel(
    name: str, arguments: dict[str, Any], signature: Mapping[str, Any], parameters: list[torch.nn.Parameter]
) -> None:
    """Ask for the fused kernel where there is one: the fewest passes over memory, and one launch on a GPU."""
    given = arguments.get("fused") is not None or arguments.get("foreach") is not None
    if "fused" in signature and not given:
        devices = {"cpu"} if name in _FUSED_ON_CPUS_ALONE else {"cpu", "cuda"}
        arguments["fused"] = all(p.device.type in devices and p.is_floating_point() for p in parameters)


def can_be_captured(spec: Mapping[str, Any]) -> bool:
    """Whether `build` makes this optimizer `capturable` on a GPU: torch's fused SGD, and all that take the argument."""
    kind = OPTIMIZERS.get(spec["name"])
    if kind is None:
        return False
    if "capturable" in inspect.signature(kind).parameters:
        return True
    return kind is torch.optim.SGD and spec.get("fused") is not False and not spec.get("foreach")


def _make_capturable(name: str, arguments: dict[str, Any], signature: Mapping[str, Any]) -> None:
    if "capturable" in signature:
        arguments["capturable"] = True
    elif not arguments.get("fused"):
        able = [
            other
            for other, kind in OPTIMIZERS.items()
            if {"capturable", "fused"} & set(inspect.signature(kind).parameters)
        ]
        what = f"{name} without its fused kernel" if "fused" in signature else name
        allowed = ", ".join(able)
        raise InputError("cannot be captured in a CUDA graph", key="optimizer", value=what, allowed=allowed)


def _lr_tensor(lr: float, kind: type, like: torch.Tensor) -> torch.Tensor:
    # torch's own fused kernels read the LR as float32, whatever the parameters are.
    wide = like.dtype == torch.float64 and kind.__module__.partition(".")[0] != "torch"
    return torch.tensor(float(lr), dtype=torch.float64 if wide else torch.float32, device=like.device)


def _from_user(
    reference: str, parameters: list[torch.nn.Parameter], lr: float, arguments: Mapping[str, Any]
) -> torch.optim.Optimizer:
    function = user_code.load_function(reference, key="optimizer.name")
    try:
        inspect.signature(function).bind(parameters, lr, **arguments)
    except TypeError as error:
        raise InputError(f"refuses its arguments ({error})", key="optimizer", value=reference) from error
    try:
        made = function(parameters, lr, **arguments)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{type(error).__name__}: {error}", key="optimizer", value=reference) from error
    if not isinstance(made, torch.optim.Optimizer):
        allowed = "a function (parameters, lr, **arguments) that returns a torch.optim.Optimizer"
        raise InputError("made no optimizer", key="optimizer.name", value=reference, allowed=allowed)
    first = made.param_groups[0].get("lr")
    for (
        group
    ) in made.param_groups:  # `set_lr` sets all of them: one made with twice the first's LR keeps twice
        if "lr_scale" not in group and first and group.get("lr") not in (None, first):
            group["lr_scale"] = float(group["lr"]) / float(first)
    return made


def check_step(
    optimizer: torch.optim.Optimizer,
    model: torch.nn.Module,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    name: str,
) -> None:
    """Make one step on two samples and see whether an optimizer of the user's own can drive the training loop.

    Args:
        optimizer: made from the model's parameters; it and the model are changed.
        input_shape: (C, H, W).
        name: as the study names it, for messages.

    Raises:
        InputError: parameters are left out or have no LR, or the step fails, changes nothing, or is not finite.
    """
    key = "optimizer.name"
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    left_out = sum(id(parameter) not in held for parameter in trained)
    if left_out:
        raise InputError(f"leaves out {left_out} of the model's {len(trained)} tensors", key=key, value=name)
    if any("lr" not in group for group in optimizer.param_groups):
        raise InputError(
            "a parameter group has no LR", key=key, value=name, allowed="groups with the key 'lr'"
        )
    before = [parameter.detach().clone() for parameter in trained]
    with torch.random.fork_rng(devices=[]):
        loss = torch.nn.functional.cross_entropy(
            model.train()(torch.linspace(0, 1, 2 * math.prod(input_shape)).reshape(2, *input_shape)),
            torch.tensor([0, classes - 1]),
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        try:
            optimizer.step()
        except Exception as error:
            message = f"its step() fails ({type(error).__name__}: {error})"
            raise InputError(message, key=key, value=name) from error
    if not all(bool(torch.isfinite(parameter).all()) for parameter in trained):
        raise InputError("its first step makes weights that are not finite", key=key, value=name)
    if all(torch.equal(parameter, old) for parameter, old in zip(trained, before, strict=True)):
        raise InputError("its step() changes no weight", key=key, value=name)


def kernel(optimizer: torch.optim.Optimizer) -> str:
    """How the optimizer's step is computed: ``fused``, ``foreach`` (multi-tensor) or ``per-tensor``."""
    own = getattr(optimizer, "kernel", None)
    if isinstance(own, str):
        return own
    group = optimizer.param_groups[0]
    if group.get("fused"):
        return "fused"
    if group.get("foreach") is None and "foreach" in group:  # torch's own choice
        return "foreach" if group["params"][0].device.type == "cuda" else "per-tensor"
    return "foreach" if group.get("foreach") else "per-tensor"


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the LR of every group, times the group's own ``lr_scale`` if it has one, without a device wait."""
    for group in optimizer.param_groups:
        value = lr * group.get("lr_scale", 1.0)
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value


def load_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """`load_state_dict` that keeps the groups' own tensors, such as an LR on the device, with the values loaded."""
    kept = [
        {key: value for key, value in group.items() if isinstance(value, torch.Tensor)}
        for group in optimizer.param_groups
    ]
    optimizer.load_state_dict(state)
    for group, own in zip(optimizer.param_groups, kept, strict=True):
        for key, tensor in own.items():
            tensor.copy_(group[key])
            group[key] = tensor


def momentum(optimizer: torch.optim.Optimizer) -> float | None:
    """Momentum, or beta1, of the first group; None if the optimizer has neither."""
    group = optimizer.param_groups[0]
    if "momentum" in group:
        return float(group["momentum"])
    return float(group["betas"][0]) if "betas" in group else None


def set_momentum(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set momentum, or beta1, of every group alike.

    A CUDA graph that has captured ``step()`` does not follow: these are constants of its kernels.

    Raises:
        InputError: the optimizer has neither.
    """
    if momentum(optimizer) is None:
        raise InputError("has no momentum to set", key="optimizer", value=type(optimizer).__name__)
    for group in optimizer.param_groups:
        if "momentum" in group:
            group["momentum"] = value
        else:
            group["betas"] = (value, *group["betas"][1:])
