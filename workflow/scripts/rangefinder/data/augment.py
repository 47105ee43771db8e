"""Random crops and flips: parameters drawn per epoch, applied to a whole batch at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from ..errors import InputError
from .sampling import random_words

_KEYS = ("random_crop", "horizontal_flip")


class Draws(NamedTuple):
    """Parameters of one epoch, indexed by sample: ``top`` and ``left`` int64 [n], ``flip`` bool [n]."""

    top: torch.Tensor
    left: torch.Tensor
    flip: torch.Tensor


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images.

    Attributes:
        padding: random crop to the image's own size after zero padding by this many pixels on each side
            (black, before normalising, as ``torchvision.transforms.RandomCrop(size, padding)``); 0 for none.
        flip: mirror left to right with probability 1/2.
    """

    padding: int = 0
    flip: bool = False

    @classmethod
    def from_spec(cls, spec: dict | None) -> Augmentation | None:
        """From ``{random_crop: 4, horizontal_flip: true}``; None where nothing is to be done.

        Raises:
            InputError: unknown key, or a value of the wrong type.
        """
        spec = spec or {}
        for key, value in spec.items():
            if key not in _KEYS:
                raise InputError("unknown augmentation", key="augmentation", value=key, allowed=_KEYS)
            wanted = bool if key == "horizontal_flip" else int
            if type(value) is not wanted or value < 0:
                allowed = "true or false" if wanted is bool else "padding in pixels, 0 or more"
                raise InputError("not usable", key=f"augmentation.{key}", value=value, allowed=allowed)
        result = cls(padding=spec.get("random_crop", 0), flip=spec.get("horizontal_flip", False))
        return result if result.padding or result.flip else None

    def draw(self, seed: int, epoch: int, n: int) -> Draws:
        """The parameters of all samples in one epoch: a pure function of seed, epoch (0-based) and sample."""
        words = random_words(n, "augmentation", seed, epoch)
        sizes = np.uint64(2 * self.padding + 1)
        # Three disjoint bit fields of one word; the bias of the remainder is below sizes / 2**31.
        top = (words & np.uint64(0x7FFFFFFF)) % sizes
        left = ((words >> np.uint64(31)) & np.uint64(0x7FFFFFFF)) % sizes
        flip = (words >> np.uint64(63)).astype(bool) & self.flip
        return Draws(*(torch.from_numpy(a) for a in (top.astype(np.int64), left.astype(np.int64), flip)))

    def pad(self, images: torch.Tensor) -> torch.Tensor:
        """Zero-padded images: uint8 [N, C, H + 2p, W + 2p]."""
        p = self.padding
        return torch.nn.functional.pad(images, (p, p, p, p)) if p else images

    def apply(self, padded: torch.Tensor, indices: torch.Tensor, draws: Draws) -> torch.Tensor:
        """The augmented images of a batch.

        Args:
            padded: all images as :meth:`pad` returns them.
            indices: int64 [B], on the same device.
            draws: of the epoch, on the same device.

        Returns:
            uint8 [B, C, H, W].
        """
        apply = _apply_on_host if padded.device.type == "cpu" else _apply_on_device
        return apply(self, padded, indices, draws)


def _crops(padded: torch.Tensor, padding: int) -> torch.Tensor:
    """A view of every possible crop [N, C, top, left, H, W]: only the chosen ones are ever copied."""
    height, width = (size - 2 * padding for size in padded.shape[2:])
    return padded.unfold(2, height, 1).unfold(3, width, 1)


def _apply_on_device(
    what: Augmentation, padded: torch.Tensor, indices: torch.Tensor, draws: Draws
) -> torch.Tensor:
    """Few kernels and no wait for the device."""
    if what.padding:
        images = _crops(padded, what.padding)[indices, :, draws.top[indices], draws.left[indices]]
    else:
        images = padded.index_select(0, indices)
    return (
        torch.where(draws.flip[indices][:, None, None, None], images.flip(3), images) if what.flip else images
    )


def _apply_on_host(
    what: Augmentation, padded: torch.Tensor, indices: torch.Tensor, draws: Draws
) -> torch.Tensor:
    """The same by NumPy, which copies whole rows where torch goes element by element (four times faster)."""
    chosen = indices.numpy()
    if what.padding:
        crops = _crops(padded, what.padding).numpy()
        images = crops[chosen, :, draws.top.numpy()[chosen], draws.left.numpy()[chosen]]
    else:
        images = padded.index_select(0, indices).numpy()
    if what.flip:
        flipped = draws.flip.numpy()[chosen]
        images[flipped] = images[flipped][..., ::-1]
    return torch.from_numpy(images)
