"""Problem 1's comparison: diverging networks, the best step, what ReLUs get, what is left of the gradient."""

import math
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from ist597_norms import measurements, summary
from ist597_norms import p1_compare_norms as p1
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


def test_the_running_statistics_reach_over_as_many_images_at_every_batch_size():
    sizes = {config["batch_size"]: config for config in p1.configs("full") if config["part"] == "batch size, momentum"}
    assert set(sizes) == set(p1.BATCH_SIZES) - {1, p1.BATCH_SIZE}
    for size, config in sizes.items():
        assert config["momentum"] ** (p1.BATCH_SIZE / size) == pytest.approx(p1.MOMENTUM)
        assert config["learning_rate"] / size == pytest.approx(p1.LEARNING_RATE / p1.BATCH_SIZE)


def test_every_run_of_the_full_protocol_has_a_name_of_its_own():
    names = [config["name"] for config in p1.configs("full")]
    assert len(set(names)) == len(names)
    assert p1.LEARNING_RATE in p1.RATES  # to which the best step's gain is taken


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


def test_validation_orders_the_variants_and_their_leads_are_of_test_by_seed():
    scores = {"none": ([0.9, 0.9], [0.80, 0.84]), "batch": ([0.7, 0.7], [0.81, 0.85]), "keras_batch": ([1, 1], [1, 1])}
    tables = {}
    for variant, (validation, test) in scores.items():
        curves = [[0.1, score] for score in validation]
        tables[variant] = pd.DataFrame({"validation_accuracy": curves, "test_accuracy": test})
    best = summary.the_best(tables)
    assert best["order"] == ["none", "batch"]
    assert best["leads"][0]["mean"] == pytest.approx(-0.01) and best["leads"][0]["low"] == pytest.approx(-0.01)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_the_relus_get(bad):
    """A bias far below zero kills a unit, one far above leaves it on; what is not finite is no share."""
    model = CNN(20, 10)
    model.b2.assign([-1e4] * 5 + [1e4] * 5 + [0.0] * 10)
    measured = measurements.relu_activity(model, IMAGES[:8])
    inputs = model.relu_inputs(IMAGES[:8])[1].numpy()
    assert measured["dead"][1] == 5 + np.sum((inputs[:, 10:] <= 0).all(axis=0))
    assert measured["active"][1] == pytest.approx((inputs > 0).mean())
    assert measured["deviation"][1] == pytest.approx(inputs.std(), rel=1e-6)
    assert measured["histogram"].sum(axis=1).tolist() == [8 * 28 * 28 * 30, 8 * 20]
    assert min(measured["histogram"][1][[0, -1]]) >= 5 * 8
    model.b2.assign(tf.fill((20,), bad))
    measured = measurements.relu_activity(model, IMAGES[:8])
    assert all(np.isnan(values[1]).all() and np.isfinite(values[0]).all() for values in measured.values())


@pytest.mark.parametrize(("mode", "m", "left"), [("batch", 2, 0.0), ("batch", 8, 6 / 8), ("layer", 2, 6 / 8)])
def test_two_dimensions_of_the_networks_gradient_are_lost(mode, m, left):
    batches = np.arange(20 * m).reshape(20, m)
    model = measurements.Probed(20 if mode == "batch" else 8, 10, normalization=mode)
    shares = measurements.surviving_shares(model, IMAGES, LABELS, batches)
    assert np.mean(shares) == pytest.approx(left, abs=0.1 if left else 0.02)


def a_level(**columns):
    """Return a variant's runs at one step, by seed."""
    curves = {"validation_accuracy": [[0.1, 0.8]] * 3, "validation_loss": [[0.9, 0.5]] * 3}
    activity = {"active": [[[0.5, 0.5], [0.4, 0.3]]] * 3, "dead": [[[0, 0], [1, dead]] for dead in (2, 4, 9)]}
    others = {"training_accuracy": [0.9] * 3, "train_loss": [[0.5, 0.2]] * 3, "test_loss": [0.6] * 3}
    return pd.DataFrame({**curves, **activity, **others, **columns})


def test_differences_are_to_none_and_to_the_usual_place_by_seed():
    none = a_level(test_accuracy=[0.80, 0.84, 0.82]).sample(frac=1, random_state=0)  # shuffled: the index counts
    batch = a_level(test_accuracy=[0.81, 0.86, 0.85], train_loss=[[0.5, 0.1]] * 3)
    after = a_level(test_accuracy=[0.83, 0.89, 0.86], validation_loss=[[0.2, 0.7]] * 3)
    reached = summary.levels({"none": none, "batch": batch, "batch_after": after}, early=1)
    assert reached["batch"]["minus_none"]["test_accuracy"]["mean"] == pytest.approx(0.02)
    assert reached["batch"]["minus_none"]["train_loss"]["mean"] == pytest.approx(-0.1)
    assert reached["batch_after"]["minus_before"]["mean"] == pytest.approx(0.02)
    assert reached["batch"]["epoch_of_least_validation_loss"] == 2
    assert reached["batch_after"]["epoch_of_least_validation_loss"] == 1
    assert reached["batch"]["training_accuracy"]["mean"] == pytest.approx(0.9)
    assert [layer["mean"] for layer in reached["batch"]["dead"]["last"]] == pytest.approx([1, 5])
    assert reached["batch"]["dead"]["first"][1]["high"] == 0
    assert [layer["mean"] for layer in reached["batch"]["active"]["last"]] == pytest.approx([0.4, 0.3])
    assert "minus_none" not in reached["none"]
    assert reached["none"]["validation_as_early"]["mean"] == pytest.approx(0.1)
    (first, second) = summary.after_holm({"provided": {"none": none, "batch": batch, "batch_after": after}})
    assert first["p"] == pytest.approx(0.0742, abs=1e-4)  # gains of 1, 2 and 3 points: t = 3.46 with 2 degrees
    assert second["p"] == pytest.approx(2 * 0.0202, abs=1e-4)  # 3, 5 and 4 points: t = 6.93, the smaller of two


def test_layers_lead_and_the_scaled_momentum_by_batch_size():
    base = {"seed": 0, "batch_size": 2, "part": "batch size"}
    rows = [
        {**base, "mode": "none", "test_accuracy": 0.7},
        {**base, "mode": "layer", "test_accuracy": 0.6},
        {**base, "mode": "batch", "test_accuracy": 0.1},  # with Keras's momentum
        {**base, "mode": "batch", "part": "batch size, momentum", "test_accuracy": 0.5},
        {**base, "mode": "none", "part": "protocol", "batch_size": 64, "test_accuracy": 0.9},
    ]
    row = summary.by_batch_size(pd.DataFrame(rows), images=55)["2"]
    assert row["layer_minus_batch"]["mean"] == pytest.approx(0.1)
    assert row["none_minus_layer"]["mean"] == pytest.approx(0.1)
    assert row["batch_fixed"]["mean"] == pytest.approx(0.1) and row["updates"] == 27


def test_the_predicted_share_is_of_the_minibatch_or_of_the_features():
    rows = [{"mode": mode, "batch_size": 8, "surviving": [0.7, 0.8]} for mode in ("batch", "layer")]
    shares = summary.by_group_size(pd.DataFrame(rows), features=100)
    assert shares["batch"]["8"]["predicted"] == 6 / 8 and shares["layer"]["8"]["predicted"] == 98 / 100
    assert shares["batch"]["8"]["measured"]["mean"] == pytest.approx(0.75)
