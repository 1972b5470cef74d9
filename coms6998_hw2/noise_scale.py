"""The gradient noise scale of McCandlish et al. (2018, arXiv 1812.06162), and batch sizes chosen by it.

It is the batch size at which the noise of the gradient is as large as the gradient: with much smaller batches, twice
the batch is nearly worth two steps; with much larger ones it is hardly worth more than one.
"""

import math

import numpy as np
from scipy import stats


def estimates(small, big, b_small: int, b_big: int) -> tuple[np.ndarray, np.ndarray]:
    """Return unbiased estimates (steps,) of the gradient's squared length and of its noise's, tr(covariance).

    small, big (steps,): mean squared lengths of the gradients of batches of b_small and of b_big (appendix A.1).
    Raises ValueError unless 0 < b_small < b_big.
    """
    if not 0 < b_small < b_big:
        raise ValueError(f"the batches are {b_small} and {b_big}; the first must be the smaller, and positive")
    small, big = np.asarray(small, float), np.asarray(big, float)
    signal = (b_big * big - b_small * small) / (b_big - b_small)
    noise = (small - big) / (1 / b_small - 1 / b_big)
    return signal, noise


def noise_scale(small, big, b_small: int, b_big: int) -> dict:
    """Return the noise scale {"mean", "low", "high", "n"}: the mean noise over the mean signal, and a 95% interval.

    Averaged separately, divided last: a mean of ratios would be biased. The interval is a bootstrap over the steps; it
    is infinite where the signal's mean is not told from zero.
    """
    signal, noise = estimates(small, big, b_small, b_big)

    def ratio(signal, noise, axis=-1):
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(signal.mean(axis) > 0, noise.mean(axis) / signal.mean(axis), np.inf)

    result = {"mean": float(ratio(signal, noise)), "n": len(signal)}
    if len(signal) < 2 or np.ptp(noise) == np.ptp(signal) == 0:
        return {**result, "low": result["mean"], "high": result["mean"]}
    interval = stats.bootstrap(
        (signal, noise), ratio, paired=True, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return {**result, "low": float(interval.low), "high": float(interval.high)}


def power_of_two(batch_size: float, smallest: int, largest: int) -> int:
    """Return the power of two that is nearest in the logarithm, between smallest and largest (powers of two)."""
    if not batch_size > smallest:
        return smallest
    return int(min(largest, max(smallest, 2 ** round(math.log2(min(batch_size, largest))))))


def automatic_range(first: float, last: float, stop: float, smallest: int, largest: int) -> tuple[int, int]:
    """Return (b_min, b_max): powers of two near the noise scale early and late in training.

    Below the first the gradient is mostly noise from the start; above the last it is hardly ever. Neither exceeds
    `stop`, where the range test's loss stops falling, nor leaves [smallest, largest]. Raises ValueError for
    smallest > largest.
    """
    if not 1 <= smallest <= largest:
        raise ValueError(f"the batch may go from {smallest} to {largest}; it needs 1 <= smallest <= largest")
    largest = power_of_two(stop, smallest, largest)
    low, high = sorted((power_of_two(first, smallest, largest), power_of_two(last, smallest, largest)))
    return low, high
