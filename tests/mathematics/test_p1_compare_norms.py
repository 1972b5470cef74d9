"""Problem 1's comparison: diverging networks, the best step, what ReLUs get, what is left of the gradient."""

import math
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from ist597_norms import p1_compare_norms as p1
from ist597_norms import summary
from ist597_norms.cnn import CNN

RNG = np.random.default_rng(0)
IMAGES = RNG.random((200, 28, 28, 1)).astype("float32")
LABELS = np.eye(10, dtype="float32")[RNG.integers(0, 10, 200)]


def test_weights_without_a_direction_end_a_run_with_nan():
    config = {**p1.base_config("quick", "fashion_mnist"), "dataset": "digits", "images": 300, "epochs": 3}
    config |= {"mode": "weight", "learning_rate": 1e20, "part": "tuned"}
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # a run sets TensorFlow's threads, once in a process
        diverged = pool.submit(p1.run, config).result()
    assert [len(diverged[key]) for key in ("train_loss", "validation_loss", "validation_accuracy")] == [3, 3, 3]
    assert math.isnan(diverged["validation_accuracy"][-1]) and math.isnan(diverged["test_accuracy"])
    assert math.isnan(diverged["training_accuracy"])
    for key in ("active", "dead"):
        assert np.shape(diverged[key]) == (4, 2) and not np.isnan(diverged[key][0]).any()
        assert np.isnan(diverged[key][-1]).all()
    assert np.isnan(diverged["histogram"][1]).all() and np.isfinite(diverged["histogram"][0]).all()


def runs(ends):
    """Return rows of a grid: (mode, step, last validation accuracy, seed) each."""
    rows = []
    for mode, rate, end, seed in ends:
        run = {"part": "tuned", "position": "before", "seed": seed, "mode": mode, "learning_rate": rate}
        rows.append({**run, "validation_accuracy": [0.1, end]})
    return summary.with_variants(pd.DataFrame(rows))


def test_a_diverged_step_is_never_the_best():
    ends = [("weight", 0.3, 0.8, 0), ("weight", 1.0, None, 0), ("none", 0.3, 0.7, 0), ("none", 1.0, 0.9, 0)]
    frame = runs([*ends, ("none", 0.3, 0.99, 1), ("batch", 0.3, None, 0)])
    assert summary.best_steps(frame) == {"weight": 0.3, "none": 1.0}


def test_a_variant_is_a_mode_with_its_place_or_start():
    frame = pd.DataFrame(
        {"mode": ["none", "batch", "weight"], "position": ["before", "after", "before"], "start": [None, None, "data"]}
    )
    assert list(summary.with_variants(frame).variant) == ["none", "batch_after", "weight_data_start"]


def test_the_order_of_the_variants_and_their_leads_are_paired_by_seed():
    scores = {"none": [0.80, 0.84], "batch": [0.81, 0.85], "keras_batch": [0.99, 0.99]}
    tables = {variant: pd.DataFrame({"test_accuracy": values}) for variant, values in scores.items()}
    best = summary.the_best(tables)
    assert best["order"] == ["batch", "none"]
    assert best["leads"][0]["mean"] == pytest.approx(0.01) and best["leads"][0]["low"] == pytest.approx(0.01)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_the_relus_get(bad):
    """A bias far below zero kills a unit, one far above leaves it on; what is not finite is no share."""
    model = CNN(20, 10)
    model.b2.assign([-1e4] * 5 + [1e4] * 5 + [0.0] * 10)
    measured = p1.relu_activity(model, IMAGES[:8])
    inputs = model.relu_inputs(IMAGES[:8])[1].numpy()
    assert measured["dead"][1] == 5 + np.sum((inputs[:, 10:] <= 0).all(axis=0))
    assert measured["active"][1] == pytest.approx((inputs > 0).mean())
    assert measured["deviation"][1] == pytest.approx(inputs.std(), rel=1e-6)
    assert measured["histogram"].sum(axis=1).tolist() == [8 * 28 * 28 * 30, 8 * 20]
    assert min(measured["histogram"][1][[0, -1]]) >= 5 * 8
    model.b2.assign(tf.fill((20,), bad))
    measured = p1.relu_activity(model, IMAGES[:8])
    assert all(np.isnan(values[1]).all() and np.isfinite(values[0]).all() for values in measured.values())


@pytest.mark.parametrize(("mode", "m", "left"), [("batch", 2, 0.0), ("batch", 8, 6 / 8), ("layer", 2, 98 / 100)])
def test_two_dimensions_of_the_networks_gradient_are_lost(mode, m, left):
    batches = np.arange(20 * m).reshape(20, m)
    shares = p1.surviving_shares({"mode": mode, "seed": 0}, IMAGES, LABELS, batches)
    assert np.mean(shares) == pytest.approx(left, abs=0.1 if m > 2 else 0.02)
