"""A batch sampler of cyclically changing size, for others to use: `DataLoader(images, batch_sampler=...)`."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from coms6998_hw2.problem_4.batch_policies import cyclical_batch_size, sizes_by_epoch


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

        def policy(samples):
            return min(self.images, cyclical_batch_size(start + samples, **self.policy))

        (sizes,) = sizes_by_epoch(policy, self.images, epochs=1)
        return epoch, sizes, seen

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
