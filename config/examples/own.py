"""Parts of one's own that a study names as own.py:function."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset


def small_net(input_shape, classes, width=8):
    """A network for images of any size: two convolutions, normalised, averaged over the image.

    Called with the shape (channels, height, width) and the number of classes of the data, and with the other keys of
    the study's `model`.
    """
    return nn.Sequential(
        nn.Conv2d(input_shape[0], width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, classes),
    )


def stripes(size=12, train=300, test=100):
    """Training and test set as torch data sets of (image, label): stripes across and stripes down.

    Called with `arguments` of the study's `dataset`. Images are uint8, or what torchvision's ToTensor makes.
    """

    def part(count, seed):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 2, count)
        wave = 100 * np.sin(np.arange(size) * rng.uniform(0.8, 1.6, (count, 1)))
        images = np.where(labels[:, None, None], wave[:, :, None], wave[:, None, :])
        noisy = np.clip(128 + images + rng.normal(0, 20, (count, size, size)), 0, 255).astype(np.uint8)
        return TensorDataset(torch.from_numpy(noisy[:, None]), torch.from_numpy(labels))

    return part(train, seed=0), part(test, seed=1)


def sgd_without_decay_of_biases(parameters, lr, weight_decay=1e-4):
    """SGD with momentum whose weight decay leaves biases and scales alone.

    Called with the model's parameters, the LR, and the other keys of the study's entry of `optimizers`.
    """
    parameters = list(parameters)
    groups = [
        {"params": [tensor for tensor in parameters if tensor.ndim > 1], "weight_decay": weight_decay},
        {"params": [tensor for tensor in parameters if tensor.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=lr, momentum=0.9)


def trapezoid(base_lr, steps, steps_per_epoch, share=0.2):
    """LRs of all steps: up in the first `share` of the run, level, down in the last.

    Called with the run's LR, its number of steps, those of an epoch, and `arguments` of the study's entry of
    `schedules`.
    """
    ramp = max(1, round(share * steps))
    return [base_lr * min(1, (step + 1) / ramp, (steps - step) / ramp) for step in range(steps)]
