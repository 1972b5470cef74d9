"""Cyclical batch sizes as pure functions of the number of samples seen, and a batch sampler for others to use.

    size = cyclical_batch_size(samples, b_min=64, b_max=1024, cycle=880_000)
    epochs = sizes_by_epoch(policy, images=55_000, epochs=48)      policy: a function from samples seen to a batch size

The noise of stochastic gradient descent is g = eps N / B for a rate eps, N images and batches of B (Smith and Le 2018):
a larger batch acts like a smaller rate. So where a cyclical rate starts at its minimum, rises and comes back, the batch
starts at its maximum, shrinks and comes back; and where the rate's amplitude decays towards lr_min, the batch's dips
decay towards b_max ("growing"). The opposite trajectory ("shrinking") decays towards b_min.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

TRAJECTORIES = ("growing", "shrinking")


def triangle(position: Any, cycle: float) -> Any:
    """Return the height, 0 to 1 and back in each cycle, at positions of any shape; Smith's max(0, 1 - x) (2017)."""
    return 1 - abs(2 * (position / cycle % 1) - 1)


def cyclical_batch_size(
    samples: float,
    *,
    b_min: int,
    b_max: int,
    cycle: float,
    decay: float = 1.0,
    trajectory: str = "growing",
    logarithmic: bool = True,
    multiple: int = 1,
) -> int:
    """Return the size of the batch that starts after so many `samples`.

    Triangular in log2 of the batch (or, if not `logarithmic`, in the batch), `cycle` samples to a cycle; the amplitude
    is multiplied by `decay` for each sample (the exp_range policy's gamma); rounded to a `multiple` between b_min and
    b_max. Raises ValueError for b_min > b_max, b_min < 1, a cycle that is not positive, a decay outside of 0 to 1, a
    multiple that is below 1 or of which none lies between b_min and b_max, and an unknown trajectory.
    """
    if not 1 <= b_min <= b_max:
        raise ValueError(f"the batch goes from {b_min} to {b_max}; it needs 1 <= b_min <= b_max")
    if not cycle > 0:
        raise ValueError(f"a cycle is {cycle} samples; it must be positive")
    if not 0 < decay <= 1:
        raise ValueError(f"decay is {decay}; it must be above 0 and at most 1")
    if not 1 <= multiple <= b_max:
        raise ValueError(f"the sizes are multiples of {multiple}; that must be from 1 to b_max, {b_max}")
    fewest, most = math.ceil(b_min / multiple), b_max // multiple
    if fewest > most:
        raise ValueError(f"the sizes are multiples of {multiple}; none lies between b_min, {b_min}, and b_max, {b_max}")
    if trajectory not in TRAJECTORIES:
        raise ValueError(f"trajectory {trajectory!r} is unknown; choose from {', '.join(TRAJECTORIES)}")
    low, high = (math.log2(b_min), math.log2(b_max)) if logarithmic else (b_min, b_max)
    swing = (high - low) * triangle(samples, cycle) * decay**samples
    value = high - swing if trajectory == "growing" else low + swing
    size = 2**value if logarithmic else value
    return min(max(fewest, round(size / multiple)), most) * multiple


def sizes_by_epoch(policy: Callable[[int], int], images: int, epochs: int) -> list[np.ndarray]:
    """Return the batch sizes of each epoch; they add up to all images, so that each is seen exactly once.

    The policy goes on counting samples from one epoch to the next; the last batch of an epoch takes what is left, and a
    single sample that would be left after it: alone it has no batch statistics.
    """
    by_epoch = []
    for epoch in range(epochs):
        sizes, seen = [], 0
        while seen < images:
            size = policy(epoch * images + seen)
            if not 1 <= size <= images:
                raise ValueError(f"the policy asks for a batch of {size}; there are {images} training images")
            left = images - seen
            sizes.append(left if left <= size + 1 and size > 1 else min(size, left))
            seen += sizes[-1]
        by_epoch.append(np.array(sizes))
    return by_epoch


def asked_sizes(policy: Callable[[int], int], sizes: list[np.ndarray]) -> list[np.ndarray]:
    """Return the sizes that the policy asks for, of which an epoch's last batch may be what was left."""
    images = int(sizes[0].sum())
    return [
        np.array([policy(epoch * images + seen) for seen in np.cumsum(epoch_sizes) - epoch_sizes])
        for epoch, epoch_sizes in enumerate(sizes)
    ]


class cyclical_batch_sampler:
    """Batches of indices, of cyclically changing size, for `DataLoader(batch_sampler=...)`.

    >>> import torch
    >>> from torch.utils.data import DataLoader, TensorDataset
    >>> images = TensorDataset(torch.arange(100.0))
    >>> sampler = cyclical_batch_sampler(len(images), b_min=8, b_max=32, cycle=200, seed=0)
    >>> loader = DataLoader(images, batch_sampler=sampler)
    >>> [len(batch) for (batch,) in loader]
    [32, 21, 15, 12, 11, 9]
    >>> len(loader) == len(sampler)  # of the epoch to come
    True
    >>> state = sampler.state_dict()  # {"samples": 100}: one epoch has gone by
    >>> sampler.load_state_dict(state)

    Each epoch is a new permutation, decided by the seed and the number of samples seen; `state_dict` and
    `load_state_dict` resume, also in the middle of an epoch; so does a new iteration after one that was left early: it
    hands out the rest of that epoch. The state counts what the loader has asked for: with
    `num_workers`, that is some batches ahead of what it has handed out.
    """

    def __init__(self, images: int, *, seed: int = 0, **policy: Any):
        """Take the number of images and the keyword arguments of `cyclical_batch_size`; raises its ValueErrors."""
        if images < 1:
            raise ValueError(f"there are {images} images; a sampler needs at least one")
        cyclical_batch_size(0, **policy)
        if policy["b_max"] > images:
            raise ValueError(f"b_max is {policy['b_max']}; there are only {images} images")
        self.images, self.seed, self.policy, self.samples = images, seed, policy, 0

    def _sizes(self):
        """Return the batch sizes of the present epoch, and how many of its samples have been seen."""
        epoch, seen = divmod(self.samples, self.images)
        start = epoch * self.images
        sizes = sizes_by_epoch(
            lambda n: min(self.images, cyclical_batch_size(start + n, **self.policy)), self.images, 1
        )
        return epoch, sizes[0], seen

    def __iter__(self) -> Iterator[list[int]]:
        epoch, sizes, seen = self._sizes()
        order = np.random.default_rng([self.seed, epoch]).permutation(self.images)
        position = 0
        for size in sizes:
            batch = order[position : position + size].tolist()
            position += size
            if position > seen:
                self.samples = int(epoch * self.images + position)
                yield batch

    def __len__(self) -> int:
        _, sizes, seen = self._sizes()
        return int((np.cumsum(sizes) > seen).sum())

    def state_dict(self) -> dict:
        """Return how many samples have been handed out."""
        return {"samples": self.samples}

    def load_state_dict(self, state: dict) -> None:
        """Go on where a sampler with this state stopped; raises ValueError for what is no such state."""
        samples = state.get("samples") if isinstance(state, dict) and len(state) == 1 else None
        if type(samples) is not int or samples < 0:
            raise ValueError(f"a sampler's state is {{'samples': how many}}, not {state}")
        self.samples = samples
