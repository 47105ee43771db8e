"""Networks by name: the studies' own, any torchvision classifier, and the user's functions."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence

import torch
from torch import nn

from .errors import InputError
from .initialisation import initialise
from .parts import check_image_size
from .user_code import is_reference, load_function

Shape = tuple[int, int, int]


def lenet5(input_shape: Shape, classes: int) -> nn.Module:
    """LeNet-5 with tanh and average pooling (after LeCun et al. 1998); 61,706 parameters for 10 classes.

    Layers are made in the order in which data flow, since each draws its weights from the global generator.
    """
    check_image_size("LeNet5", input_shape)
    channels = input_shape[0]
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(16, 120, 5),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(120, 84),
        nn.Tanh(),
        nn.Linear(84, classes),
    )


def lenet_small(input_shape: Shape, classes: int) -> nn.Module:
    """A LeNet for small images: two 3×3 convolutions, tanh, average pooling; 9,258 parameters for 1×8×8."""
    check_image_size("LeNetSmall", input_shape)
    channels, height, width = input_shape
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), 32),
        nn.Tanh(),
        nn.Linear(32, classes),
    )


def _check_widths(key: str, widths: object, count: int | None = None) -> None:
    fits = isinstance(widths, list | tuple) and len(widths) in ([count] if count else range(1, 100))
    if not fits or any(type(width) is not int or width < 1 for width in widths):
        allowed = f"a list of {count or 'one or more'} integers from 1"
        raise InputError("not layer widths", key=f"model.{key}", value=widths, allowed=allowed)


def mlp(input_shape: Shape, classes: int, hidden: Sequence[int] = (128,)) -> nn.Module:
    """Fully connected layers of the given widths with ReLU."""
    _check_widths("hidden", hidden)
    channels, height, width = input_shape
    layers, size = [nn.Flatten()], channels * height * width
    for units in hidden:
        layers += [nn.Linear(size, units), nn.ReLU()]
        size = units
    return nn.Sequential(*layers, nn.Linear(size, classes))


def bn_cnn(input_shape: Shape, classes: int, widths: Sequence[int] = (32, 64, 128)) -> nn.Module:
    """Three 3×3 convolutions with batch normalisation and ReLU, pooled in between, averaged at the end."""
    _check_widths("widths", widths, count=3)
    check_image_size("BNCNN", input_shape)
    layers, size = [], input_shape[0]
    for number, width in enumerate(widths):
        layers += [nn.Conv2d(size, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if number < 2 else [nn.AdaptiveAvgPool2d(1)]
        size = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(size, classes))


def _resnet(builder: str, input_shape: Shape, classes: int, stem: str = "imagenet") -> nn.Module:
    """torchvision's ResNet (He et al. 2016) with its own stem, or the one for small images.

    Args:
        builder: torchvision's name.
        stem: ``imagenet`` (7×7 stride 2, max-pool) or ``cifar`` (3×3 stride 1, no max-pool).
    """
    if stem not in ("imagenet", "cifar"):
        raise InputError("unknown stem", key="model.stem", value=stem, allowed=["imagenet", "cifar"])
    from torchvision.models import get_model

    model = get_model(builder, weights=None, num_classes=classes)
    channels = input_shape[0]
    if stem == "cifar":
        model.conv1 = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
        model.maxpool = nn.Identity()
    elif channels != 3:
        model.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    if stem == "cifar" or channels != 3:  # a replaced layer is drawn as torchvision draws it
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    return model


def resnet18(input_shape: Shape, classes: int, stem: str = "imagenet") -> nn.Module:
    """torchvision's ResNet-18."""
    return _resnet("resnet18", input_shape, classes, stem)


def resnet50(input_shape: Shape, classes: int, stem: str = "imagenet") -> nn.Module:
    """torchvision's ResNet-50; 25,557,032 parameters in 161 tensors with its stem and 1,000 classes."""
    return _resnet("resnet50", input_shape, classes, stem)


MODELS = {
    "LeNet5": lenet5,
    "LeNetSmall": lenet_small,
    "MLP": mlp,
    "BNCNN": bn_cnn,
    "ResNet18": resnet18,
    "ResNet50": resnet50,
}


def build(spec: dict, input_shape: Shape, classes: int) -> nn.Module:
    """Build a network on the CPU; weights come from torch's global generator, as the layers draw them.

    Args:
        spec: a study's ``model`` section: ``name`` (of :data:`MODELS`, of a torchvision classifier, or
            ``path/file.py:function``, called with ``input_shape``, ``classes`` and the remaining keys),
            ``classes`` (number of outputs, by default the data set's) and the model's own arguments.
        input_shape: (C, H, W).
        classes: of the data set.

    Raises:
        InputError: unknown name or argument, or the model cannot be built.
    """
    # source_digest only tells apart versions of the user's file.
    arguments = {key: value for key, value in spec.items() if key not in ("name", "classes", "source_digest")}
    name, outputs = spec.get("name"), spec.get("classes") or classes
    if type(outputs) is not int or outputs < classes:
        allowed = f"{classes} (the data set's classes) or more"
        raise InputError("too few outputs", key="model.classes", value=outputs, allowed=allowed)
    if name in MODELS:
        function = MODELS[name]
        known = list(inspect.signature(function).parameters)[2:]
        for key in arguments:
            if key not in known:
                allowed = ["name", "classes", *known]
                raise InputError(f"unknown argument of {name}", key="model", value=key, allowed=allowed)
    elif is_reference(name):
        function = load_function(name, key="model.name")
    else:
        return _torchvision(name, outputs, arguments)
    try:
        model = function(input_shape, outputs, **arguments)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{type(error).__name__}: {error}", key="model", value=spec) from error
    if not isinstance(model, nn.Module):
        raise InputError("does not return a torch.nn.Module", key="model.name", value=name)
    return model


# These return a tuple while training unless told not to.
_AUXILIARY = ("googlenet", "inception_v3")


def _torchvision(name: object, outputs: int, arguments: dict) -> nn.Module:
    import torchvision.models

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        allowed = [*MODELS, "path/file.py:function", *known]
        raise InputError("unknown model", key="model.name", value=name, allowed=allowed)
    if name in _AUXILIARY:
        arguments = {"aux_logits": False, "init_weights": True} | arguments
    try:
        return torchvision.models.get_model(name, weights=None, num_classes=outputs, **arguments)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"cannot be built ({error})", key="model", value={"name": name, **arguments}
        ) from error


def seeded_build(
    spec: dict, input_shape: Shape, classes: int, *, initialisation: str = "default", seed: int
) -> tuple[nn.Module, torch.Tensor]:
    """Build and initialise as a pure function of its arguments, and check the result.

    Returns:
        the model, and torch's global generator state as it is after ``manual_seed(seed)`` and building
        (:class:`rangefinder.data.TorchDataLoaderOrder` goes on from it). The caller's generator is unchanged.

    Raises:
        InputError: as :func:`build`, :func:`rangefinder.initialisation.initialise` and :func:`check_model`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = build(spec, input_shape, classes)
        state = torch.get_rng_state()
    initialise(model, initialisation, seed)
    check_model(model, input_shape, spec.get("classes") or classes)
    return model, state


def check_model(model: nn.Module, input_shape: Shape, classes: int) -> None:
    """One small step forward and back on a copy; the model and the random generator stay as they are.

    Raises:
        InputError: the model does not take a float batch [2, C, H, W], its outputs are not finite
            floating-point logits [2, classes], or no gradient reaches its parameters.
    """
    key, name = "model", type(model).__name__
    trial = copy.deepcopy(model).train()
    # Smooth, bounded and different for the two samples (batch normalisation needs a variance).
    count = 2 * input_shape[0] * input_shape[1] * input_shape[2]
    batch = torch.sin(torch.arange(count, dtype=torch.float32)).mul(0.5).add(0.5).reshape(2, *input_shape)
    with torch.random.fork_rng(devices=[]):
        try:
            logits = trial(batch)
        except Exception as error:
            message = f"fails on a batch {list(batch.shape)} ({type(error).__name__}: {error})"
            raise InputError(message, key=key, value=name) from error
        if not isinstance(logits, torch.Tensor) or not logits.is_floating_point():
            found = logits.dtype if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise InputError(f"{name} returns {found}", key=key, allowed="a tensor of floating-point logits")
        if tuple(logits.shape) != (2, classes):
            shape, allowed = list(logits.shape), f"[batch, {classes}], one logit per class"
            raise InputError(f"{name} returns logits of a wrong shape", key=key, value=shape, allowed=allowed)
        if not torch.isfinite(logits).all():
            raise InputError(f"{name} returns logits that are not finite", key=key)
        if logits.grad_fn is None:
            raise InputError(f"{name} has no parameter that a gradient reaches", key=key)
        nn.functional.cross_entropy(logits, torch.tensor([0, classes - 1])).backward()
    if not any(p.grad is not None and bool(p.grad.any()) for p in trial.parameters()):
        raise InputError(f"{name} has no parameter that a gradient reaches", key=key)


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
