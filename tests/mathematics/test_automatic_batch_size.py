"""Question 4.5's algorithm: the noise scale where it is known in closed form, where a run falls behind, the range."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coms6998_hw2.problem_4.automatic_batch_size import (
    automatic_range,
    estimates,
    falling_behind,
    gradient_lengths,
    growing_batch_test,
    noise_scale,
    power_of_two,
)
from coms6998_hw2.problem_4.training_run import Training
from utils.cli import Options

DIMENSION, NOISE = 20, 0.5


def regression_gradients(offset, n, rng):
    """Return n per-example gradients of 0.5 (x . w - y)^2, y = x . w* + noise, at w = w* + offset."""
    x = rng.normal(size=(n, DIMENSION))
    return x * (x @ offset - rng.normal(0, NOISE, n))[:, None]


def true_scale(offset):
    """Return tr(covariance) / |gradient|^2: (d + 1) |offset|^2 + d noise^2 over |offset|^2, for x ~ N(0, I)."""
    length = np.sum(offset**2)
    return ((DIMENSION + 1) * length + DIMENSION * NOISE**2) / length


@pytest.mark.parametrize("size", [0.05, 0.2, 1.0])
def test_linear_regressions_noise_scale_is_found_to_within_a_tenth(size):
    rng = np.random.default_rng(0)
    offset = np.full(DIMENSION, size / np.sqrt(DIMENSION))
    small, big, b_small, parts = [], [], 64, 16
    for _ in range(600):
        means = regression_gradients(offset, b_small * parts, rng).reshape(parts, b_small, DIMENSION).mean(axis=1)
        small.append(np.sum(means**2, axis=1).mean())
        big.append(np.sum(means.mean(axis=0) ** 2))
    estimated = noise_scale(small, big, b_small, b_small * parts)
    assert estimated == pytest.approx(true_scale(offset), rel=0.1)
    # the mean of the ratios, which one might write instead, is another number where the gradient is short
    signal, noise = estimates(small, big, b_small, b_small * parts)
    if size == 0.05:
        assert np.mean(noise / signal) != pytest.approx(true_scale(offset), rel=0.1)


def test_gradients_without_noise_have_scale_zero_and_ask_for_the_smallest_batch():
    estimated = noise_scale(np.ones(5), np.ones(5), 64, 1024)
    assert estimated == 0
    assert automatic_range(8192, estimated, 64, 8192) == (64, 64)


def test_gradients_of_noise_alone_ask_for_the_largest():
    rng = np.random.default_rng(0)
    estimated = noise_scale(1 / 64 * (1 + 0.01 * rng.normal(size=50)), np.full(50, 1 / 1100), 64, 1024)
    assert estimated == np.inf
    assert automatic_range(4096, estimated, 64, 8192) == (2048, 8192)


@pytest.mark.parametrize(("size", "expected"), [(1, 64), (64, 64), (90, 64), (91, 128), (1000, 1024), (1e9, 8192)])
def test_the_nearest_power_of_two_in_range(size, expected):
    assert power_of_two(size, 64, 8192) == expected


@given(st.integers(0, 10**6), st.floats(0, 1e6))
def test_the_range_goes_from_where_it_falls_behind_to_the_noise_scale(stop, noise):
    low, high = automatic_range(stop, noise, 64, 8192)
    assert 64 <= low <= high <= 8192 and {low, high} <= {2**k for k in range(6, 14)}
    assert high == power_of_two(noise, 64, 8192)
    assert low < stop <= 2 * low or low in (64, high, 8192)


@pytest.mark.parametrize(
    ("stop", "expected"), [(64, 64), (128, 64), (128 + 1e-12, 64), (129, 128), (4096, 2048), (8192, 8192)]
)
def test_the_smallest_batch_is_the_last_before_falling_behind(stop, expected):
    assert automatic_range(stop, 8192, 64, 8192) == (expected, 8192)


def test_what_diverged_is_behind_and_asks_for_nothing():
    losses = np.where(GROWING > 1000, np.nan, curve(GROWING))
    estimated = falling_behind(GROWING, losses, GROWING, CONSTANT, curve(CONSTANT), windows=50)
    assert 1000 / 1.5 < estimated < 1500
    with pytest.raises(ValueError, match="smallest batch diverged"):
        falling_behind(GROWING, curve(GROWING), GROWING, CONSTANT, np.full(len(CONSTANT), np.nan))
    with pytest.raises(ValueError, match="NaN"):
        power_of_two(np.nan, 64, 8192)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="batches are 64 and 64"):
        estimates([1.0], [1.0], 64, 64)
    for small, big in (([np.nan, 1.0], [1.0, 1.0]), ([], []), ([1.0, 2.0], [1.0])):
        with pytest.raises(ValueError, match="must be finite, one of each a step"):
            noise_scale(small, big, 64, 1024)
    with pytest.raises(ValueError, match="from 128 to 64"):
        automatic_range(1, 2, 128, 64)


GROWING = np.round(64 * 128 ** (np.arange(200) / 199)).astype(int)  # 64 to 8192
CONSTANT = np.full(GROWING.sum() // 64, 64)


def curve(sizes):
    """Return a loss that falls with the samples seen, whatever the batch."""
    return 0.3 + 2 * np.exp(-np.cumsum(sizes) / CONSTANT.sum() * 5)


def test_where_the_loss_does_not_depend_on_the_batch_none_is_too_large():
    rng = np.random.default_rng(0)
    losses = curve(GROWING) + rng.normal(0, 0.02, len(GROWING))
    constant = curve(CONSTANT) + rng.normal(0, 0.05, len(CONSTANT))
    assert falling_behind(GROWING, losses, GROWING, CONSTANT, constant) == 8192
    assert falling_behind(GROWING, np.full(200, 2.3), GROWING, CONSTANT, np.full(len(CONSTANT), 2.3)) == 8192


@pytest.mark.parametrize("limit", [256, 1024, 4000])
def test_the_batch_from_which_on_a_run_falls_behind_is_found(limit):
    losses = curve(GROWING) + 0.6 * (GROWING > limit)
    estimated = falling_behind(GROWING, losses, GROWING, CONSTANT, curve(CONSTANT), windows=50)
    assert limit / 1.5 < estimated < limit * 1.5
    early = losses + 3 * (np.arange(200) == 5)  # a single spike does not count: what follows is not behind
    assert falling_behind(GROWING, early, GROWING, CONSTANT, curve(CONSTANT), windows=50) == estimated


@pytest.fixture(scope="module")
def small():
    config = {"dataset": "digits", "images": 100, "precision": "float32", "micro_batch": 8, "seed": 0}
    return Training(config, Options(preset="quick", device="cpu"))


def test_the_batch_grows_geometrically_and_every_image_is_seen_once_an_epoch(small):
    config = {"epochs": 2, "smallest": 8, "largest": 32, "micro_batch": 8, "learning_rate": 1e-3}
    test = growing_batch_test(small, config)
    assert test["sizes"].sum() == 2 * 90 and test["sizes"][0] == 8 and 16 < test["sizes"].max() <= 32
    assert np.all(test["asked"] >= test["sizes"])
    seen = np.cumsum(test["sizes"]) - test["sizes"]
    assert np.all(np.abs(test["asked"] - 8 * 4 ** (seen / 180)) <= 4)  # to the nearest micro-batch
    assert len(test["losses"]) == len(test["sizes"])


def test_measuring_gradients_changes_nothing_and_its_large_batch_is_the_mean(small):
    before = {name: value.clone() for name, value in small.trainer.model.state_dict().items()}
    torch.manual_seed(0)  # of dropout's masks
    small.trainer.generator.manual_seed(0)  # of the augmentation
    lengths = gradient_lengths(small, {"seed": 0, "steps": 2, "micro_batch": 8})
    assert all(torch.equal(value, before[name]) for name, value in small.trainer.model.state_dict().items())
    assert lengths["b_small"] == 8 and lengths["b_big"] == 88 and len(lengths["small"]) == 2
    torch.manual_seed(0)
    small.trainer.generator.manual_seed(0)
    drawn = torch.as_tensor(np.random.default_rng([0, 2]).choice(small.training_indices, 88, replace=False))
    parts = torch.stack([small.trainer.gradient(small.pixels, small.labels, part) for part in drawn.split(8)])
    assert lengths["small"][0] == pytest.approx(float(parts.square().sum(dim=1).mean()), rel=1e-4)
    assert lengths["big"][0] == pytest.approx(float(parts.mean(dim=0).square().sum()), rel=1e-4)
