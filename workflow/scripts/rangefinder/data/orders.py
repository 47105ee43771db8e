"""In which order an epoch visits the training samples."""

from __future__ import annotations

import torch

from .sampling import permutation


def epoch_order(seed: int, epoch: int, n: int) -> torch.Tensor:
    """The order of one epoch, a pure function of its arguments and the same on every device.

    Args:
        seed: the run's seed.
        epoch: 0-based.
        n: number of training samples.

    Returns:
        int64 CPU tensor [n], a permutation of 0..n-1.
    """
    return torch.from_numpy(permutation(n, "epoch order", seed, epoch))


class TorchDataLoaderOrder:
    """Replays the orders that ``torch.utils.data.DataLoader(shuffle=True)`` draws from the global generator.

    In every epoch a loop over a shuffling training loader and then over a test loader draws three numbers
    from torch's global CPU generator: the training iterator's base seed, the random sampler's seed (which
    seeds a fresh generator for ``randperm``), and the test iterator's base seed. Nothing else may draw from
    the generator between epochs (dropout and random transforms in the main process do).

    Args:
        generator_state: ``torch.get_rng_state()`` after the model was built.
        epochs: how many epochs can be asked for.
        evaluates_test: whether a test loader is iterated after each training epoch.
    """

    def __init__(self, generator_state: torch.Tensor, epochs: int, evaluates_test: bool = True) -> None:
        generator = torch.Generator()
        generator.set_state(generator_state)

        def draw() -> int:
            return int(torch.empty((), dtype=torch.int64).random_(generator=generator).item())

        self._sampler_seeds = []
        for _ in range(epochs):
            draw()
            self._sampler_seeds.append(draw())
            if evaluates_test:
                draw()

    def order(self, epoch: int, n: int) -> torch.Tensor:
        """The order of one epoch (0-based) over ``n`` samples: int64 CPU tensor [n]."""
        generator = torch.Generator()
        generator.manual_seed(self._sampler_seeds[epoch])
        return torch.randperm(n, generator=generator)

    __call__ = order
