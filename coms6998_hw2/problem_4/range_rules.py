"""Where a loss begins to fall and where it stops falling, read off a curve by rule: pure functions of (rates, losses).

    low, high = falling_range(rates, losses)     lr_min and lr_max of question 4.2
    low, high = batch_size_range(sizes, losses)  b_min and b_max of question 4.5, by the same rule
    suggested = valley(rates, losses)            fastai's suggestion, to compare
    smooth = debiased_average(losses)            for curves with a point for each update

Rates are positive and increase; a loss that is not finite (diverged) counts as no point.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.ndimage import median_filter

# Of the whole fall: the loss has begun to fall after the first 5%, and has fallen after 99%; on a dense curve, whose
# least point is a noisy one that lies below the curve itself, after 95%.
BEGUN, DONE, DONE_DENSE = 0.05, 0.99, 0.95
DENSE = 20  # points: on a curve of so many, one that lies apart is noise; of ten candidates, it may be the optimum
RISEN = 0.1  # of the first loss: a curve that has risen by so much above its least has ended its fall
SMALLEST_FALL = 0.05  # of the plateau: a curve that falls by less does not fall
SMOOTHING = 0.98  # weight of the old average, fastai's


def falling_range(rates: ArrayLike, losses: ArrayLike) -> tuple[float, float]:
    """Return the rates at which the loss begins and stops to fall, on the way to its minimum.

    The curve is read up to where the running median of three first lies above its least so far by a tenth of its first
    value: what comes after that, the small loss of a network that is dead too, is no part of the fall. The plateau is
    the median of the first third of the losses before the minimum, at least two of them; the fall is from there to the
    minimum. Whether there is a fall is decided by the running median of three, which an isolated spike or dip does not
    move; on a dense curve it also stands for the losses. Between points the curve is linear in
    the logarithm of the rate. Raises ValueError where fewer than four losses are finite, and where the loss falls by
    less than 5% of the plateau.
    """
    x, y = _finite(rates, losses)
    dense = len(y) >= DENSE
    smoothed = median_filter(y, size=3, mode="nearest")
    risen = smoothed > np.minimum.accumulate(smoothed) + RISEN * smoothed[0]
    if np.any(risen):
        end = int(np.argmax(risen))
        x, y, smoothed = x[:end], y[:end], smoothed[:end]
    lowest, plateau = _lowest_and_plateau(smoothed)
    if lowest == 0 or plateau - smoothed[lowest] < SMALLEST_FALL * plateau:
        raise ValueError(f"the loss never falls: it starts at {plateau:.4g}, and its minimum is {smoothed[lowest]:.4g}")
    curve, done = (smoothed, DONE_DENSE) if dense else (y, DONE)
    lowest, plateau = _lowest_and_plateau(curve)
    fall, log_rates = plateau - curve[lowest], np.log(x)
    begin = _last_crossing(log_rates[: lowest + 1], curve[: lowest + 1], plateau - BEGUN * fall)
    end = _first_crossing(log_rates[: lowest + 1], curve[: lowest + 1], plateau - done * fall)
    return float(np.exp(begin)), float(np.exp(max(begin, end)))


def valley(rates: ArrayLike, losses: ArrayLike) -> float:
    """Return fastai's suggestion: near the middle of the longest decreasing subsequence of losses.

    With thirds of its length L, rounded down as fastai does: start + int(L / 3) + int(L / 6), where its start is the
    point before the subsequence, or its first point if none is before. Raises falling_range's ValueErrors: a curve
    that does not fall has no valley.
    """
    falling_range(rates, losses)
    x, y = _finite(rates, losses)
    length = np.ones(len(y), dtype=int)  # of the longest decreasing subsequence that ends here
    for i in range(1, len(y)):
        smaller = length[:i][y[:i] > y[i]]
        length[i] = 1 + smaller.max(initial=0)
    end = int(np.argmax(length))
    third = length[end] / 3
    return float(x[max(0, end - int(length[end]) + int(third) + int(third / 2))])


def batch_size_range(sizes: ArrayLike, losses: ArrayLike) -> tuple[float, float]:
    """Return (b_min, b_max), where the loss begins to rise with the batch size and where it stops rising.

    By g = eps N / B the loss falls with 1 / B as it does with the rate: the rule is `falling_range`. Raises its
    ValueError where the loss does not depend on the batch size.
    """
    sizes = np.asarray(sizes, float)
    low, high = falling_range(1 / sizes[::-1], np.asarray(losses, float)[::-1])
    return 1 / high, 1 / low


def loss_at(rates: ArrayLike, losses: ArrayLike, wanted: ArrayLike) -> np.ndarray:
    """Return the losses (wanted,) of a curve, linear in the logarithm of the rate, at other rates; NaN beyond it."""
    rates, losses = np.asarray(rates, float), np.asarray(losses, float)
    finite = np.isfinite(losses)
    return np.interp(np.log(wanted), np.log(rates[finite]), losses[finite], left=np.nan, right=np.nan)


def debiased_average(losses: ArrayLike, weight: float = SMOOTHING) -> np.ndarray:
    """Return the exponential moving average (n,), each value divided by the sum of its weights.

    So it does not start at zero, as one without that division would. It stops being finite where the losses do.
    """
    losses = np.asarray(losses, float)
    average = pd.Series(losses).ewm(alpha=1 - weight).mean().to_numpy(copy=True)
    average[~np.logical_and.accumulate(np.isfinite(losses))] = np.nan
    return average


def running_mean_of_epoch(losses: ArrayLike, epoch_length: int) -> np.ndarray:
    """Return the mean since the epoch began (n,), which Keras hands to a callback at the end of each batch."""
    series = pd.Series(np.asarray(losses, float))
    return series.groupby(np.arange(len(series)) // epoch_length).expanding().mean().to_numpy()


def _finite(rates, losses):
    rates, losses = np.asarray(rates, float), np.asarray(losses, float)
    if rates.shape != losses.shape or np.any(rates <= 0) or np.any(np.diff(rates) <= 0):
        raise ValueError(f"rates must be positive and increase, one for each loss; got {rates.shape} {losses.shape}")
    finite = np.isfinite(losses)
    if finite.sum() < 4:
        raise ValueError(f"only {finite.sum()} of {len(losses)} losses are finite; a range needs at least four")
    return rates[finite], losses[finite]


def _lowest_and_plateau(curve):
    lowest = int(np.argmin(curve))
    return lowest, float(np.median(curve[: max(2, lowest // 3)]))


def _last_crossing(x, y, level):
    """Return where y, linear between its points, last comes down to the level."""
    i = int(np.flatnonzero(y >= level)[-1])
    return x[i] + (x[i + 1] - x[i]) * (y[i] - level) / (y[i] - y[i + 1])


def _first_crossing(x, y, level):
    """Return where y, linear between its points, first comes down to the level."""
    i = int(np.flatnonzero(y <= level)[0])
    return x[i] if i == 0 else x[i - 1] + (x[i] - x[i - 1]) * (y[i - 1] - level) / (y[i - 1] - y[i])
