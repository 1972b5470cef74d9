"""Means and shares with 95% confidence intervals, as plain dicts: {"mean", "low", "high", "n"}."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

CONFIDENCE = 0.95


def mean_interval(values: ArrayLike) -> dict:
    """Return {"mean", "low", "high", "n"}: the mean of the values with Student's 95% confidence interval.

    What is not finite (a diverged run) counts neither in the mean nor in n; the interval is NaN where n < 2.
    """
    numbers = np.asarray(values, dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    n, mean = len(numbers), numbers.mean() if len(numbers) else math.nan
    half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * stats.sem(numbers) if n > 1 else math.nan
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n}


def geometric_interval(values: ArrayLike) -> dict:
    """Return {"mean", "low", "high", "n"} of positive values: the geometric mean, its interval taken on the logs.

    What is not finite counts as in `mean_interval`; raises ValueError for a value that is not positive.
    """
    if np.any(np.asarray(values, dtype=float) <= 0):
        raise ValueError(f"a geometric mean needs positive values, not {np.nanmin(np.asarray(values, dtype=float))}")
    interval = mean_interval(np.log(np.asarray(values, dtype=float)))
    return {key: value if key == "n" else math.exp(value) for key, value in interval.items()}


def holm(p_values: ArrayLike) -> np.ndarray:
    """Return the p-values (k,) of k tests corrected for their number (Holm 1979): comparable with one level for all."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return corrected


def holm_by_name(p_values: dict[str, float]) -> dict[str, float]:
    """Return the p-values of as many tests corrected for their number (Holm 1979), by the same names."""
    return dict(zip(p_values, map(float, holm(list(p_values.values()))), strict=True))


def p_of_mean(values: ArrayLike) -> float:
    """Return the p-value of Student's test that the mean is zero; what is not finite does not count; NaN for n < 2."""
    numbers = np.asarray(values, dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    return float(stats.ttest_1samp(numbers, 0).pvalue) if len(numbers) > 1 else math.nan


def fraction_interval(successes: int, n: int) -> dict:
    """Return {"fraction", "low", "high", "n"}: a share of n with Wilson's 95% interval."""
    interval = stats.binomtest(int(successes), int(n)).proportion_ci(CONFIDENCE, method="wilson")
    return {"fraction": successes / n, "low": interval.low, "high": interval.high, "n": int(n)}


def paired_shares(first: np.ndarray, second: np.ndarray) -> dict:
    """Return how much more often the first of two outcomes, yes or no, holds in the same n cases, (n,) each.

    The difference of the shares is (b - c) / n, b and c counting the cases in which they differ; its interval is
    Wald's for paired proportions (Agresti, Categorical Data Analysis, section 10.1), p McNemar's exact test.
    """
    b, c, n = int(np.sum(first & ~second)), int(np.sum(~first & second)), len(first)
    difference = (b - c) / n
    half = stats.norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(b + c - (b - c) ** 2 / n) / n
    p = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    interval = {"fraction": difference, "low": difference - half, "high": difference + half, "n": n}
    return {"difference": interval, "only_first": b, "only_second": c, "p": p}
