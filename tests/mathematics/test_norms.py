"""The normalizations against Keras, TensorFlow Probability, torch, finite differences, and mutants that must fail."""

import numpy as np
import pytest
import tensorflow as tf

from ist597_norms import norms, references
from ist597_norms import p1_check_gradients as proof
from ist597_norms.cnn import EPS
from ist597_norms.references import TWINS
from utils import machine

# A formula that is right agrees to this in float64; with a mean of 100 deviations, x - mean loses two more digits.
TIGHT = 1e-10
TIGHTEST = 1e-12  # where nothing is subtracted


def compare(norm, reference, shape, values, dtype, forward=None):
    """Return the largest relative difference of any quantity between `forward` (default: ours) and a reference."""
    names = [quantity[1:] for quantity in proof.QUANTITIES[norm][1:]]
    tensors = references.case(norm, shape, values, dtype, seed=11)
    mine = references.with_gradients(forward or (lambda t: references.ours(norm, t)), tensors, names)
    theirs = references.REFERENCES[reference](norm, tensors, names)
    return {q: np.max(np.abs(mine[q] - theirs[q])) / np.max(np.abs(theirs[q])) for q in proof.QUANTITIES[norm]}


@pytest.mark.parametrize("norm", TWINS)
@pytest.mark.parametrize("reference", ["library", "torch"])
@pytest.mark.parametrize("shape", references.SHAPES)
@pytest.mark.parametrize("values", references.INPUTS)
def test_float64_is_the_librarys(norm, reference, shape, values):
    differences = compare(norm, reference, shape, values, "float64")
    assert all(difference < TIGHT for difference in differences.values())
    assert all(difference < TIGHTEST for name, difference in differences.items() if norm == "weight" or name == "dbeta")


@pytest.mark.parametrize("norm", TWINS)
@pytest.mark.parametrize("shape", ["dense, batch of 2", "convolution, batch of 2"])
def test_gradients_are_those_of_finite_differences(norm, shape):
    differences = compare(norm, "differences", shape, "standard", "float64")
    assert all(difference < 1e-6 for difference in differences.values())


@pytest.mark.parametrize("norm", TWINS)
def test_float32_agrees_to_its_own_precision(norm):
    differences = compare(norm, "library", "convolution", "standard", "float32")
    assert all(difference < 1e-5 for difference in differences.values())


def test_a_difference_that_is_not_a_number_is_an_error_and_no_agreement(monkeypatch):
    ours = references.ours
    monkeypatch.setattr(machine, "one_thread_each", lambda: None)  # TensorFlow has started here with more
    monkeypatch.setattr(proof, "ours", lambda norm, tensors: ours(norm, tensors) + float("nan"))
    config = next(config for config in proof.configs("quick") if config["kind"] == "gradients")
    with pytest.raises(ValueError, match="difference of output is nan"):
        proof.run(config)


def _batch(t, axes, variance=None, eps_outside=False, stop=False, eps=EPS):
    x = t["x"]
    mean = tf.reduce_mean(x, axis=axes, keepdims=True)
    var = variance(x, axes) if variance else tf.reduce_mean(tf.square(x - mean), axis=axes, keepdims=True)
    if stop:
        mean, var = tf.stop_gradient(mean), tf.stop_gradient(var)
    scale = tf.sqrt(var) + eps if eps_outside else tf.sqrt(var + eps)
    return t["gamma"] * (x - mean) / scale + t["beta"]


def _uncentered(x, axes):
    mean = tf.reduce_mean(x, axis=axes, keepdims=True)
    return tf.reduce_mean(tf.square(x), axis=axes, keepdims=True) - tf.square(mean)


def _unbiased(x, axes):
    n = np.prod([x.shape[axis] for axis in axes])
    return tf.math.reduce_variance(x, axis=axes, keepdims=True) * n / (n - 1)


def _over_channels(t):
    flat = tf.reshape(t["x"], (-1, t["x"].shape[-1]))
    return t["gamma"] * tf.reshape(norms.layer_norm(flat, 1.0, 0.0, eps=EPS), t["x"].shape) + t["beta"]


MUTANTS = {  # a normalization, what is computed in its place, on which input
    "wrong axis": ("batch", lambda t: _batch(t, (1, 2)), "standard", "float64"),
    "statistics without gradient": ("batch", lambda t: _batch(t, (0, 1, 2), stop=True), "standard", "float64"),
    "eps outside the root": ("batch", lambda t: _batch(t, (0, 1, 2), eps_outside=True), "standard", "float64"),
    "eps of another library": ("batch", lambda t: _batch(t, (0, 1, 2), eps=1e-5), "standard", "float64"),
    "unbiased variance": ("batch", lambda t: _batch(t, (0, 1, 2), _unbiased), "standard", "float64"),
    "E[x^2] - E[x]^2": ("batch", lambda t: _batch(t, (0, 1, 2), _uncentered), "large mean", "float32"),
    "a layer's statistics over channels only": ("layer", _over_channels, "standard", "float64"),
}


def test_without_its_mistake_the_mutants_formula_is_right():
    right = compare("batch", "library", "convolution", "standard", "float64", lambda t: _batch(t, (0, 1, 2)))
    assert all(difference < TIGHT for difference in right.values())


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_norm_is_caught(mutant):
    norm, forward, values, dtype = MUTANTS[mutant]
    right = max(compare(norm, "library", "convolution", values, dtype).values())
    wrong = max(compare(norm, "library", "convolution", values, dtype, forward).values())
    assert wrong > 10 * right and wrong > (1e-3 if dtype == "float32" else TIGHT)


def test_a_weight_norm_with_its_norm_cut_off_is_caught():
    def cut_off(t):
        v = t["v"]
        norm = tf.stop_gradient(tf.sqrt(tf.reduce_sum(v**2, axis=0, keepdims=True)))
        return t["x"] @ (t["g"] * v / norm)

    differences = compare("weight", "library", "dense", "standard", "float64", cut_off)
    assert differences["output"] < TIGHT and differences["dv"] > 0.1  # the output cannot tell; the gradient does


def test_under_the_plain_sum_a_wrong_batch_norm_would_pass():
    tensors = {**references.case("batch", "convolution", "standard", "float64", 0)}
    tensors["weights"] = np.ones_like(tensors["weights"])
    gradients = [
        references.with_gradients(forward, tensors, ["x"])["dx"]
        for forward in (lambda t: references.ours("batch", t), MUTANTS["wrong axis"][1])
    ]
    assert all(np.abs(gradient).max() < 1e-12 for gradient in gradients)


def test_weight_norm_properties():
    rng = np.random.default_rng(0)
    v, g = tf.Variable(rng.normal(size=(3, 3, 4, 6))), tf.Variable(rng.normal(size=6))
    c = rng.normal(size=(3, 3, 4, 6))
    with tf.GradientTape() as tape:
        w = norms.weight_norm(v, g)
        loss = tf.reduce_sum(tf.sin(w) * c)
    dv, dg, dw = [*tape.gradient(loss, [v, g]), tf.cos(w) * c]
    norm = np.sqrt(np.sum(v.numpy() ** 2, axis=(0, 1, 2)))
    np.testing.assert_allclose(np.sqrt(np.sum(w.numpy() ** 2, axis=(0, 1, 2))), np.abs(g.numpy()), rtol=1e-12)
    np.testing.assert_allclose(np.sum((v * dv).numpy(), axis=(0, 1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(dg, np.sum((dw * v).numpy(), axis=(0, 1, 2)) / norm, rtol=1e-10)
    # Salimans and Kingma (2016), equation 3.
    np.testing.assert_allclose(dv, g / norm * dw - g * dg / norm**2 * v, rtol=1e-9, atol=1e-12)


def test_running_statistics_are_kerass_and_not_torchs():
    x = tf.constant(np.random.default_rng(0).normal(3, 2, (3, 5, 5, 4)))
    layer = tf.keras.layers.BatchNormalization(dtype="float64")
    layer(x, training=True)
    variance, ones = norms.batch_norm(x, 1.0, 0.0, eps=1e-3)[2], tf.ones(4, tf.float64)
    ours, torchs = (norms.update_moving(ones, value, momentum=0.99) for value in (variance, variance * 75 / 74))
    np.testing.assert_allclose(ours, layer.moving_variance, rtol=1e-12)
    assert np.max(np.abs(torchs - ours)) > 1e-4  # torch takes the unbiased variance


def test_inside_tf_function_with_an_unknown_batch_size():
    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32)])
    def compiled(x):
        batch = norms.batch_norm(x, tf.ones(4), tf.zeros(4), eps=1e-3)[0]
        return batch + norms.layer_norm(x, tf.ones(4), tf.zeros(4), eps=1e-3)

    x = tf.random.stateless_normal((5, 4), (1, 2))
    expected = norms.batch_norm(x, tf.ones(4), tf.zeros(4), eps=1e-3)[0]
    expected += norms.layer_norm(x, tf.ones(4), tf.zeros(4), eps=1e-3)
    np.testing.assert_allclose(compiled(x), expected, atol=1e-6)


def test_the_assignments_names():
    assert (norms.BatchNorm, norms.LayerNorm, norms.WeightNorm) == (
        norms.batch_norm,
        norms.layer_norm,
        norms.weight_norm,
    )


@pytest.mark.parametrize(("norm", "together"), [("batch", 0), ("layer", 1)])
@pytest.mark.parametrize("m", [2, 3, 8])
def test_two_dimensions_of_the_gradient_do_not_survive(norm, together, m):
    """What lies along 1 and along x-hat, exactly so without eps: of two values nothing is left."""
    rng = np.random.default_rng(m)
    tensors = {"x": rng.normal(size=(m, 4000)), "above": rng.normal(size=(m, 4000))}
    x, above = (tf.constant(value if together == 0 else value.T) for value in tensors.values())
    with tf.GradientTape() as tape:
        tape.watch(x)
        z = norms.batch_norm(x, 1.0, 0.0, eps=0.0)[0] if norm == "batch" else norms.layer_norm(x, 1.0, 0.0, eps=0.0)
    below = tape.gradient(z, x, output_gradients=above)
    survived = tf.reduce_sum(tf.math.reduce_variance(x, together, keepdims=True) * below**2) / tf.reduce_sum(above**2)
    assert float(survived) == pytest.approx((m - 2) / m, abs=0.02)
