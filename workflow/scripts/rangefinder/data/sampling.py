"""Counter-based random numbers and the permutations and stratified samples made from them.

Every draw is a pure function of its purpose, seed and counters. The generator is Philox4x64-10 (Salmon et
al. 2011), whose raw words NumPy keeps stable between versions; permutations are made here by sorting raw
words, so that they do not change when a library improves its own shuffling.
"""

from __future__ import annotations

import hashlib

import numpy as np


def random_words(count: int, purpose: str, seed: int, *counters: int) -> np.ndarray:
    """Random 64-bit words.

    Args:
        count: how many.
        purpose: what the words are for; two purposes give independent words under one seed.
        seed: the run's or the split's seed.
        counters: position in the stream (epoch, class, ...).

    Returns:
        uint64 array [count].
    """
    name = "/".join([purpose, *(str(int(number)) for number in (seed, *counters))])
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    return np.random.Philox(key=key).random_raw(count)


def permutation(count: int, purpose: str, seed: int, *counters: int) -> np.ndarray:
    """A uniformly random permutation of 0..count-1, int64 [count]: the order in which random words sort.

    Two of ``count`` 64-bit words are equal with a probability below count²/2⁶⁵, so ties do not matter.
    """
    return np.argsort(random_words(count, purpose, seed, *counters)).astype(np.int64, copy=False)


def stratified_sample(labels: np.ndarray, count: int, purpose: str, seed: int) -> np.ndarray:
    """Positions of ``count`` samples drawn without replacement, every class in its share.

    Each class gets its proportional number rounded down; what is left goes to the classes with the largest
    remainders (the lower class first where remainders are equal).

    Args:
        labels: int64 [N].
        count: at most N.
        purpose, seed: name the random stream.

    Returns:
        ascending int64 positions [count].
    """
    values, sizes = np.unique(labels, return_counts=True)
    quotas, remainders = np.divmod(sizes * count, len(labels))
    quotas[np.argsort(-remainders, kind="stable")[: count - int(quotas.sum())]] += 1
    chosen = [
        np.flatnonzero(labels == value)[permutation(int(size), purpose, seed, int(value))[:quota]]
        for value, size, quota in zip(values, sizes, quotas, strict=True)
    ]
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)
