"""Data sets: prepared as uint8 arrays on disk, loaded, split; batches as pure functions."""

from .arrays import Arrays, Splits, load, normalisation, split
from .augment import Augmentation
from .batches import EvaluationBatches, Loader, evaluation_batches, steps_per_epoch
from .orders import TorchDataLoaderOrder, epoch_order
from .prepare import prepare

__all__ = [
    "Arrays",
    "Augmentation",
    "EvaluationBatches",
    "Loader",
    "Splits",
    "TorchDataLoaderOrder",
    "epoch_order",
    "evaluation_batches",
    "load",
    "normalisation",
    "prepare",
    "split",
    "steps_per_epoch",
]
