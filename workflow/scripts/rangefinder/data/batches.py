"""Batches as pure functions of (seed, epoch, step), made on the device from resident uint8 images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from ..errors import InputError
from .augment import Augmentation, Draws
from .orders import epoch_order

# Bytes of uint8 that are gathered at once where batches are smaller: what it costs to begin with an operation in the
# middle of a training step, when none of it is in the caches, is then paid once for several batches.
GATHERED_BYTES = 1 << 21

Normalisation = tuple[Sequence[float], Sequence[float]]


def steps_per_epoch(samples: int, batch_size: int, *, drop_last: bool = False) -> int:
    """Batches that an epoch of so many samples has, an incomplete last one counted unless it is left out.

    Raises:
        InputError: the batch size is below 1, or no step would be left.
    """
    if batch_size < 1 or (drop_last and batch_size > samples):
        raise InputError(
            "impossible batch size",
            key="batch_size",
            value=batch_size,
            allowed=f"1 to {samples} (the training samples)",
        )
    return samples // batch_size if drop_last else -(-samples // batch_size)


class _Store:
    """uint8 images and labels in place, and the step from gathered uint8 to the network's input."""

    def __init__(
        self,
        images: np.ndarray | torch.Tensor,
        labels: np.ndarray | torch.Tensor,
        indices: np.ndarray | None,
        normalise: Normalisation | None,
        device: torch.device | str,
        dtype: torch.dtype,
        channels_last: bool,
        resident: bool,
    ) -> None:
        if images.ndim != 4 or len(images) != len(labels):
            raise ValueError(f"images [N, C, H, W] and labels [N] wanted, not {images.shape}, {labels.shape}")
        if indices is not None and not np.array_equal(indices, np.arange(len(images))):
            images, labels = images[indices], labels[indices]
        images, labels = torch.as_tensor(images), torch.as_tensor(labels)
        if images.dtype != torch.uint8:
            raise ValueError(f"uint8 images wanted, not {images.dtype}")
        self.device = torch.device(device)
        self.home = self.device if resident else torch.device("cpu")
        self.pin = self.home != self.device and self.device.type == "cuda"
        self.images, self.labels = images.to(self.home), labels.to(self.device, torch.int64)
        self.dtype = dtype
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        # Tensors as divisors: for a Python number a GPU multiplies by the reciprocal, which rounds otherwise.
        self.white = torch.full((1,), 255.0, device=self.device)
        self.mean = self.std = None
        if normalise is not None:
            self.mean, self.std = (
                torch.tensor([float(v) for v in values], device=self.device)[:, None, None]
                for values in normalise
            )
            if len(self.mean) != images.shape[1] or len(self.std) != images.shape[1]:
                raise InputError(
                    "one mean and one standard deviation per channel are needed",
                    key="normalise",
                    value=normalise,
                    allowed=f"{images.shape[1]} channel(s)",
                )

    def finish(self, gathered: torch.Tensor) -> torch.Tensor:
        """uint8 [B, C, H, W] → network input, as torchvision's ToTensor and Normalize to the last bit."""
        if self.home != self.device:
            gathered = (gathered.pin_memory() if self.pin else gathered).to(self.device, non_blocking=True)
        if self.device.type == "cpu":  # whose division of bytes takes longer than both of these
            x = gathered.to(torch.float32).div_(self.white)
        else:
            x = torch.div(gathered, self.white)
        if self.mean is not None:
            x.sub_(self.mean).div_(self.std)
        # Last, since arithmetic with broadcast channels is slow in a channels-last layout.
        return x.to(dtype=self.dtype, memory_format=self.layout)


class Loader:
    """Training batches. Any batch of any epoch can be made again, in any order, to the same bits.

    Args:
        images: uint8 [N, C, H, W].
        labels: integers [N].
        indices: train on these samples only (a :class:`Splits` member); all by default.
        batch_size: samples per step.
        drop_last: leave out an incomplete last batch.
        seed: of the orders (unless ``order`` is given) and of the augmentation.
        order: ``order(epoch, n) -> int64 [n]``; :func:`epoch_order` with ``seed`` by default.
        normalise: (mean, std) per channel in units of white = 1, or None to leave pixels in [0, 1].
        augmentation: crops and flips, or None.
        device: where batches appear.
        dtype: of the images in a batch.
        channels_last: memory format of the images in a batch.
        resident: keep the whole data set on the device; False gathers on the host and copies each batch over
            (the same batches).

    Raises:
        InputError: the batch size is below 1, or no step would be left.
    """

    def __init__(
        self,
        images: np.ndarray | torch.Tensor,
        labels: np.ndarray | torch.Tensor,
        *,
        indices: np.ndarray | None = None,
        batch_size: int,
        drop_last: bool = False,
        seed: int = 0,
        order: Callable[[int, int], torch.Tensor] | None = None,
        normalise: Normalisation | None = None,
        augmentation: Augmentation | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
        resident: bool = True,
    ) -> None:
        self._store = _Store(images, labels, indices, normalise, device, dtype, channels_last, resident)
        self.samples = len(self._store.labels)
        self.steps_per_epoch = steps_per_epoch(self.samples, batch_size, drop_last=drop_last)
        self.batch_size = batch_size
        self._seed = seed
        self._order = order if order is not None else lambda epoch, n: epoch_order(seed, epoch, n)
        self._augmentation = augmentation
        home = self._store.home
        # Allocated once and refilled per epoch, so that work captured in a CUDA graph finds them in place.
        self._indices = torch.empty(self.samples, dtype=torch.int64, device=home)
        self._epoch_labels = torch.empty(self.samples, dtype=torch.int64, device=self._store.device)
        self._draws: Draws | None = None
        # On a GPU what is saved is less than what the memory is worth; CUDA graphs gather in their own way (`at`).
        at_once = GATHERED_BYTES // max(1, batch_size * self._store.images[:1].numel())
        self._at_once = max(1, at_once) if self._store.device.type == "cpu" else 1
        if augmentation is not None:
            self._store.images = augmentation.pad(self._store.images)
        self.epoch: int | None = None
        self._ahead: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # batches of the epoch, by step

    def start_epoch(self, epoch: int) -> None:
        """Make ``batch`` serve this epoch (0-based)."""
        order = self._order(epoch, self.samples)
        self._indices.copy_(order)
        on_device = self._indices.to(self._store.device)
        torch.index_select(self._store.labels, 0, on_device, out=self._epoch_labels)
        if self._augmentation is not None:
            draws = self._augmentation.draw(self._seed, epoch, self.samples)
            if self._draws is None:
                self._draws = Draws(*(values.to(self._store.home) for values in draws))
            else:
                for kept, values in zip(self._draws, draws, strict=True):
                    kept.copy_(values)
        self._ahead.clear()
        self.epoch = epoch

    def span(self, step: int) -> tuple[int, int]:
        """Where batch ``step`` (0-based) stands in the epoch's order: first and past-the-last place."""
        first = step * self.batch_size
        return first, min(first + self.batch_size, self.samples)

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Batch ``step`` (0-based) of the epoch started last: images [B, C, H, W], labels int64 [B].

        Labels are a view into a buffer that the next ``start_epoch`` refills. Small batches are made several at a time,
        each given once.
        """
        if self._at_once == 1:
            return self.between(*self.span(step))
        if step not in self._ahead:
            first = step - step % self._at_once
            last = min(first + self._at_once, self.steps_per_epoch)
            x, y = self.between(self.span(first)[0], self.span(last - 1)[1])
            batches = zip(x.split(self.batch_size), y.split(self.batch_size), strict=True)
            self._ahead = dict(enumerate(batches, first))
        return self._ahead.pop(step)

    def between(self, first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
        """`batch` for the samples in places ``first`` up to ``last`` of the epoch's order."""
        return self._gathered(self._indices[first:last]), self._epoch_labels[first:last]

    def at(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`between` for places of the epoch's order that only the device knows (int64 [B]), as a CUDA graph needs.

        The data set must be resident.
        """
        indices, labels = (values.index_select(0, places) for values in (self._indices, self._epoch_labels))
        return self._gathered(indices), labels

    def _gathered(self, indices: torch.Tensor) -> torch.Tensor:
        if self._augmentation is None:
            gathered = self._store.images.index_select(0, indices)
        else:
            gathered = self._augmentation.apply(self._store.images, indices, self._draws)
        return self._store.finish(gathered)


class EvaluationBatches:
    """Batches in storage order, without augmentation; iterate as often as needed."""

    def __init__(self, store: _Store, batch_size: int) -> None:
        self._store, self.batch_size, self.samples = store, batch_size, len(store.labels)

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for first in range(0, self.samples, self.batch_size):
            part = slice(first, first + self.batch_size)
            yield self._store.finish(self._store.images[part]), self._store.labels[part]


def evaluation_batches(
    images: np.ndarray | torch.Tensor,
    labels: np.ndarray | torch.Tensor,
    *,
    indices: np.ndarray | None = None,
    batch_size: int = 1024,
    normalise: Normalisation | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    resident: bool = True,
) -> EvaluationBatches:
    """All samples of a split, in order, for evaluation; arguments as of :class:`Loader`."""
    return EvaluationBatches(
        _Store(images, labels, indices, normalise, device, dtype, channels_last, resident), batch_size
    )
