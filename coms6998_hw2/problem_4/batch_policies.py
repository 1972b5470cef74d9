"""Cyclical policies as pure functions: the rate of each update, and the batch size after so many samples seen.

    rates = cyclical_rates(10_320, lr_min=2e-5, lr_max=0.01, cycle=3440, gamma=0.99994)
    size = cyclical_batch_size(samples, b_min=64, b_max=2048, cycle=220_000, interpolation="harmonic")
    epochs = sizes_by_epoch(policy, images=55_000, epochs=12)      policy: a function from samples seen to a batch size

The noise of stochastic gradient descent is g = eps N / B for a rate eps, N images and batches of B (Smith and Le 2018):
a larger batch acts like a smaller rate. So where a cyclical rate starts at its minimum, rises and comes back, the batch
starts at its maximum, shrinks and comes back; and where the rate's amplitude decays towards lr_min, the batch's dips
decay towards b_max ("growing"). The opposite trajectory ("shrinking") decays towards b_min. A rate that is linear in
the samples seen has its counterpart in a batch whose reciprocal is: then g is the same triangle ("harmonic").
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

TRAJECTORIES = ("growing", "shrinking")
INTERPOLATIONS = {  # in what the batch is linear: a function of the size, and its inverse
    "geometric": (math.log2, lambda value: 2**value),
    "arithmetic": (float, float),
    "harmonic": (lambda size: 1 / size, lambda value: 1 / value),
}


def triangle(position: Any, cycle: float) -> Any:
    """Return the height, 0 to 1 and back in each cycle, at positions of any shape; Smith's max(0, 1 - x) (2017)."""
    return 1 - abs(2 * (position / cycle % 1) - 1)


def cyclical_rates(updates: int, *, lr_min: float, lr_max: float, cycle: float, gamma: float = 1.0) -> np.ndarray:
    """Return the learning rates (updates,): lr_min + (lr_max - lr_min) triangle(t) gamma^t, `cycle` updates to a cycle.

    Smith's exp_range policy (2017), triangular for gamma = 1. Raises ValueError unless 0 < lr_min < lr_max, cycle > 0
    and 0 < gamma <= 1.
    """
    if not 0 < lr_min < lr_max < np.inf:
        raise ValueError(f"the rates go from {lr_min} to {lr_max}; they must be positive, finite and increase")
    if not cycle > 0:
        raise ValueError(f"a cycle is {cycle} updates; it must be positive")
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma is {gamma}; it must be above 0 and at most 1")
    t = np.arange(updates)
    return lr_min + (lr_max - lr_min) * triangle(t, cycle) * gamma**t


def cyclical_batch_size(
    samples: float,
    *,
    b_min: int,
    b_max: int,
    cycle: float,
    decay: float = 1.0,
    trajectory: str = "growing",
    interpolation: str = "geometric",
    multiple: int = 1,
) -> int:
    """Return the size of the batch that starts after so many `samples`.

    Triangular in the batch's logarithm ("geometric"), in the batch itself ("arithmetic") or in 1 / batch ("harmonic"),
    `cycle` samples to a cycle; the amplitude is multiplied by `decay` for each sample (the exp_range policy's gamma);
    rounded to a `multiple` between b_min and b_max. Raises ValueError for b_min > b_max, b_min < 1, a cycle that is not
    positive, a decay outside of 0 to 1, a multiple that is below 1 or of which none lies between b_min and b_max, and
    an unknown trajectory or interpolation.
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
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation {interpolation!r} is unknown; choose from {', '.join(INTERPOLATIONS)}")
    forward, inverse = INTERPOLATIONS[interpolation]
    start, peak = (b_max, b_min) if trajectory == "growing" else (b_min, b_max)
    height = triangle(samples, cycle) * decay**samples
    size = inverse(forward(start) + (forward(peak) - forward(start)) * height)
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
    asked = []
    for epoch, epoch_sizes in enumerate(sizes):
        starts = np.cumsum(epoch_sizes) - epoch_sizes
        asked.append(np.array([policy(epoch * images + seen) for seen in starts]))
    return asked
