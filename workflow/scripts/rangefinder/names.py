"""The names a study may use, known without importing torch (tests hold them against the real thing)."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

_ADAM = ("betas", "eps", "weight_decay", "amsgrad", "foreach", "fused", "exclude_from_weight_decay")

# Arguments of each optimizer that a study may set; torch's under torch's names.
OPTIMIZERS: dict[str, tuple[str, ...]] = {
    "SGD": (
        "momentum",
        "dampening",
        "weight_decay",
        "nesterov",
        "foreach",
        "fused",
        "exclude_from_weight_decay",
    ),
    "Adafactor": ("beta2_decay", "eps", "d", "weight_decay", "foreach", "exclude_from_weight_decay"),
    "Adam": (*_ADAM, "decoupled_weight_decay"),
    "AdamW": _ADAM,
    "NAdam": (
        "betas",
        "eps",
        "weight_decay",
        "momentum_decay",
        "decoupled_weight_decay",
        "foreach",
        "exclude_from_weight_decay",
    ),
    "RAdam": (
        "betas",
        "eps",
        "weight_decay",
        "decoupled_weight_decay",
        "foreach",
        "exclude_from_weight_decay",
    ),
    "Adamax": ("betas", "eps", "weight_decay", "foreach", "exclude_from_weight_decay"),
    "Adagrad": (
        "lr_decay",
        "weight_decay",
        "initial_accumulator_value",
        "eps",
        "foreach",
        "fused",
        "exclude_from_weight_decay",
    ),
    "Adadelta": ("rho", "eps", "weight_decay", "foreach", "exclude_from_weight_decay"),
    "RMSprop": (
        "alpha",
        "eps",
        "weight_decay",
        "momentum",
        "centered",
        "foreach",
        "exclude_from_weight_decay",
    ),
    "Rprop": ("etas", "step_sizes", "foreach"),
    "ASGD": ("lambd", "alpha", "t0", "weight_decay", "foreach", "exclude_from_weight_decay"),
    "LARS": (
        "momentum",
        "weight_decay",
        "trust_coefficient",
        "eps",
        "nesterov",
        "clip",
        "lr_outside",
        "exclude_from_adaptation",
        "exclude_from_weight_decay",
    ),
    "LARSWriteUp": ("momentum", "weight_decay", "trust_coefficient", "revision"),
    "LAMB": (
        "betas",
        "eps",
        "weight_decay",
        "bias_correction",
        "norm_clip",
        "ratio_clip",
        "exclude_from_adaptation",
        "exclude_from_weight_decay",
    ),
}

# Classes of torchvision.datasets with a training and a test part and one whole number per image: the word of
# their `split` that means training, or None where they have `train: true | false`.
TORCHVISION_CLASSES: dict[str, str | None] = {
    "Country211": "train",
    "DTD": "train",
    "EMNIST": None,
    "FGVCAircraft": "trainval",
    "Flowers102": "train",
    "Food101": "train",
    "GTSRB": "train",
    "KMNIST": None,
    "OxfordIIITPet": "trainval",
    "PCAM": "train",
    "QMNIST": None,
    "RenderedSST2": "train",
    "STL10": "train",
    "SVHN": "train",
    "USPS": None,
}

# torch's own schedulers that are run as they are (the others are closed forms in `schedules`): their arguments.
TORCH_SCHEDULES: dict[str, tuple[str, ...]] = {
    "ConstantLR": ("factor", "total_iters"),
    "CosineAnnealingWarmRestarts": ("T_0", "T_mult", "eta_min"),
    "CyclicLR": (
        "max_lr",
        "step_size_up",
        "step_size_down",
        "mode",
        "gamma",
        "scale_mode",
        "cycle_momentum",
        "base_momentum",
        "max_momentum",
    ),
    "LinearLR": ("start_factor", "end_factor", "total_iters"),
}


class Facts(NamedTuple):
    """What is known of a data set before it is read: samples, shape of an image (C, H, W), number of classes."""

    train: int
    test: int
    shape: tuple[int, int, int]
    classes: int


DATASETS: dict[str, Facts | None] = {
    "digits": Facts(1437, 360, (1, 8, 8), 10),
    "mnist": Facts(60000, 10000, (1, 28, 28), 10),
    "fashion-mnist": Facts(60000, 10000, (1, 28, 28), 10),
    "cifar10": Facts(50000, 10000, (3, 32, 32), 10),
    "cifar100": Facts(50000, 10000, (3, 32, 32), 100),
    **dict.fromkeys(TORCHVISION_CLASSES),
    "npz": None,
    "imagefolder": None,
}

# Own arguments of each built-in model.
MODELS: dict[str, tuple[str, ...]] = {
    "LeNet5": (),
    "LeNetSmall": (),
    "MLP": ("hidden",),
    "BNCNN": ("widths",),
    "ResNet18": ("stem",),
    "ResNet50": ("stem",),
}

# Least and most height and width of the images that a built-in model takes, where it does not take every size.
IMAGE_SIZES: dict[str, tuple[int, int | None]] = {
    "LeNet5": (32, 32),
    "LeNetSmall": (4, None),
    "BNCNN": (4, None),
}


# torchvision's classification models: its import takes seconds, and each parse of the Snakefile reads the studies.
TORCHVISION_MODELS = frozenset(
    """
    alexnet convnext_base convnext_large convnext_small convnext_tiny densenet121 densenet161 densenet169
    densenet201 efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4
    efficientnet_b5 efficientnet_b6 efficientnet_b7 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s
    googlenet inception_v3 maxvit_t mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2
    mobilenet_v3_large mobilenet_v3_small regnet_x_16gf regnet_x_1_6gf regnet_x_32gf regnet_x_3_2gf
    regnet_x_400mf regnet_x_800mf regnet_x_8gf regnet_y_128gf regnet_y_16gf regnet_y_1_6gf regnet_y_32gf
    regnet_y_3_2gf regnet_y_400mf regnet_y_800mf regnet_y_8gf resnet101 resnet152 resnet18 resnet34
    resnet50 resnext101_32x8d resnext101_64x4d resnext50_32x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0
    shufflenet_v2_x1_5 shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_b swin_s swin_t swin_v2_b
    swin_v2_s swin_v2_t vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn vit_b_16 vit_b_32
    vit_h_14 vit_l_16 vit_l_32 wide_resnet101_2 wide_resnet50_2
    """.split()  # noqa: SIM905 (a name a line would be eighty)
)


@cache
def is_torchvision_classifier(name: str) -> bool:
    """Whether torchvision has a classification model of this name; it is imported for one that the list lacks."""
    if name in TORCHVISION_MODELS:
        return True
    import torchvision

    return name in torchvision.models.list_models(module=torchvision.models)
