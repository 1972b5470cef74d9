"""The normalizations' unusual inputs: refused with a sentence, or computed as in a wider precision."""

import numpy as np
import pytest
import tensorflow as tf

from ist597_norms import norms

X, ONE, ZERO = tf.ones((4, 3)), tf.ones(3), tf.zeros(3)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: norms.batch_norm(X, ONE, ZERO, axes=(0,), eps=0.0), "eps is 0.0"),
        (lambda: norms.layer_norm(X, ONE, ZERO, axes=(1,), eps=-1e-3), "eps is -0.001"),
        (lambda: norms.batch_norm_inference(X, ONE, ZERO, ZERO, ONE, eps=float("nan")), "eps is nan"),
        (lambda: norms.batch_norm(tf.cast(X, tf.float16), ONE, ZERO, axes=(0,), eps=1e-9), "eps is 1e-09.*float16"),
        (lambda: norms.batch_norm(tf.ones((4, 3), tf.int32), ONE, ZERO, axes=(0,), eps=1e-3), "x is int32"),
        (lambda: norms.batch_norm(X, ONE, ZERO, axes=(2,), eps=1e-3), r"axes are \(2,\).*\(4, 3\)"),
        (lambda: norms.batch_norm(X, ONE, ZERO, axes=(), eps=1e-3), r"axes are \(\)"),
        (lambda: norms.batch_norm(X, ONE, ZERO, axes=(0, -2), eps=1e-3), "one axis twice"),
        (lambda: norms.batch_norm(X, tf.ones(4), ZERO, axes=(0,), eps=1e-3), r"gamma has shape \(4,\).*\(3,\)"),
        (lambda: norms.layer_norm(X, ONE, tf.zeros(2), axes=(1,), eps=1e-3), r"beta has shape \(2,\).*\(3,\)"),
        (
            lambda: norms.layer_norm(tf.ones((2, 4, 4, 3)), ONE, ZERO, axes=(1, 2, 3), eps=1e-3),
            r"gamma has shape \(3,\)",
        ),
        (lambda: norms.batch_norm_inference(X, ONE, ZERO, tf.zeros(2), ONE, eps=1e-3), r"mean has shape \(2,\)"),
        (lambda: norms.update_moving(ONE, tf.ones(2), momentum=0.9), r"\(3,\).*\(2,\)"),
        (lambda: norms.update_moving(ONE, ONE, momentum=1.1), "momentum is 1.1"),
        (lambda: norms.weight_norm(X, tf.ones(2), axes=(0,)), r"g has shape \(2,\).*\(3,\)"),
        (lambda: norms.weight_norm(X, ONE, axes=(5,)), r"axes are \(5,\)"),
        (lambda: norms.weight_norm_init(X, tf.ones((7, 2)), axes=(0,)), r"preactivations have shape \(7, 2\)"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()


def test_a_zero_v_and_constant_preactivations_are_errors_in_both_modes():
    with pytest.raises(tf.errors.InvalidArgumentError, match="v is zero"):
        norms.weight_norm(tf.zeros((4, 3)), ONE, axes=(0,))
    with pytest.raises(tf.errors.InvalidArgumentError, match="v is zero"):
        tf.function(lambda v: norms.weight_norm(v, ONE, axes=(0,)))(tf.zeros((4, 3)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="not finite"):
        norms.weight_norm(tf.fill((4, 3), float("inf")), ONE, axes=(0,))
    with pytest.raises(tf.errors.InvalidArgumentError, match="do not vary"):
        norms.weight_norm_init(X, tf.ones((7, 3)), axes=(0,))
    with pytest.raises(tf.errors.InvalidArgumentError, match="do not vary"):
        norms.weight_norm_init(X, tf.fill((7, 3), 0.1), axes=(0,))  # whose mean is rounded
    with pytest.raises(tf.errors.InvalidArgumentError, match="not finite"):
        norms.weight_norm(tf.fill((4, 3), float("nan")), ONE, axes=(0,))


def test_squares_beyond_single_precision_are_an_error_and_not_zeros():
    large = tf.constant(np.random.default_rng(0).normal(0, 1e20, (4, 3)), tf.float32)
    for call in (
        lambda: norms.batch_norm(large, ONE, ZERO, axes=(0,), eps=1e-3),
        lambda: norms.layer_norm(large, ONE, ZERO, axes=(1,), eps=1e-3),
        lambda: norms.weight_norm_init(tf.ones((3, 3)), large, axes=(0,)),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match="the variance is not finite"):
            call()
    z = norms.layer_norm(tf.cast(large, tf.float64), [1.0] * 3, [0.0] * 3, axes=(1,), eps=1e-3)
    np.testing.assert_allclose(tf.math.reduce_std(z, axis=1), 1, rtol=1e-6)


def test_numpy_arrays_and_lists_are_taken_as_parameters():
    x = np.random.default_rng(0).normal(size=(4, 3))
    z, mean, variance = norms.batch_norm(x, np.ones(3), [0.0] * 3, axes=(0,), eps=1e-3)
    np.testing.assert_allclose(z, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3), rtol=1e-12)
    np.testing.assert_allclose(
        norms.batch_norm_inference(x, [1.0] * 3, [0.0] * 3, mean.numpy(), variance.numpy(), eps=1e-3), z, rtol=1e-12
    )
    assert norms.weight_norm(x, [1.0, 2.0, 3.0], axes=(0,)).shape == (4, 3)


HALF = [tf.float16, tf.bfloat16]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(("mean", "deviation"), [(2.0, 1.0), (0.5, 400.0)])
def test_half_precision_has_the_statistics_of_single_precision(dtype, mean, deviation):
    """In float16 the sum of 50,176 values of mean 2 is infinite, and so is the square of 400."""
    x = tf.cast(np.random.default_rng(0).normal(mean, deviation, (64, 28, 28, 2)), dtype)
    one, zero = tf.ones(2, dtype), tf.zeros(2, dtype)
    z, batch_mean, variance = norms.batch_norm(x, one, zero, axes=(0, 1, 2), eps=1e-3)
    exact = tf.cast(x, tf.float64)
    np.testing.assert_allclose(batch_mean, tf.reduce_mean(exact, (0, 1, 2)), rtol=1e-3)
    np.testing.assert_allclose(variance, tf.math.reduce_variance(exact, (0, 1, 2)), rtol=1e-4)
    rounding = 2.0**-10 if dtype == tf.float16 else 2.0**-7
    expected = norms.batch_norm(exact, [1.0, 1.0], [0.0, 0.0], axes=(0, 1, 2), eps=1e-3)[0]
    assert z.dtype == dtype and np.max(np.abs(tf.cast(z, tf.float64) - expected)) < 5 * rounding
    inference = norms.batch_norm_inference(x, one, zero, batch_mean, variance, eps=1e-3)
    assert inference.dtype == dtype and np.max(np.abs(tf.cast(inference, tf.float64) - expected)) < 5 * rounding
    ones = tf.ones((28, 28, 2), dtype)
    layer = norms.layer_norm(x, ones, tf.zeros_like(ones), axes=(1, 2, 3), eps=1e-3)
    deviations = tf.math.reduce_std(tf.cast(layer, tf.float64), (1, 2, 3))
    assert layer.dtype == dtype and np.max(np.abs(deviations - 1)) < 0.01


SIZES = [(tf.float16, 1e-4), (tf.float16, 300.0), (tf.bfloat16, 1e-25), (tf.float32, 1e-23), (tf.float32, 1e20)]


@pytest.mark.parametrize(("dtype", "size"), [*SIZES, (tf.float64, 1e-170)])
def test_the_length_of_weights_whose_squares_the_dtype_does_not_hold(dtype, size):
    values = np.random.default_rng(0).normal(0, size, (588, 3)).astype(dtype.as_numpy_dtype)
    v, exact = tf.Variable(values), values.astype(float) / size
    length = np.sqrt(np.sum(exact**2, axis=0))
    rtol = {tf.float16: 2e-3, tf.bfloat16: 2e-2}.get(dtype, 1e-5)
    np.testing.assert_allclose(tf.cast(norms.unit_norms(v, (0,)), tf.float64) / size, length, rtol=rtol)
    with tf.GradientTape() as tape:
        w = norms.weight_norm(v, tf.ones(3, dtype), axes=(0,))
        loss = tf.reduce_sum(w[0])
    assert w.dtype == dtype
    np.testing.assert_allclose(tf.cast(w[0], tf.float64), exact[0] / length, rtol=rtol, atol=1e-7)
    if dtype in (tf.float32, tf.float64) and size < 1:  # else it is too small or too large for the dtype itself
        gradient = tf.cast(tape.gradient(loss, v), tf.float64) * size
        np.testing.assert_allclose(gradient[0], (1 - (exact[0] / length) ** 2) / length, rtol=1e-3)


@pytest.mark.parametrize("n", [0, 1])
def test_a_batch_without_statistics_is_refused_when_its_size_is_known(n):
    with pytest.raises(ValueError, match=f"has {n} over axes"):
        norms.batch_norm(tf.ones((n, 3)), ONE, ZERO, axes=(0,), eps=1e-3)

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32)])
    def compiled(x):
        return norms.batch_norm(x, ONE, ZERO, axes=(0,), eps=1e-3)[1]

    with pytest.raises(tf.errors.InvalidArgumentError, match="needs more than one value"):
        compiled(tf.ones((n, 3)))
    assert np.all(np.isfinite(compiled(tf.ones((2, 3)))))


@pytest.mark.parametrize(("size", "g"), [(1e-23, 1e-16), (1e-30, 1e-9), (1e-37, 1e-3), (1e30, 1e9), (1e38, 10.0)])
def test_the_weights_have_the_length_g_where_g_v_would_leave_the_dtype(size, g):
    v = np.abs(np.random.default_rng(0).normal(1, 0.1, (5, 3))).astype(np.float32) * np.float32(size)
    w = norms.weight_norm(v, np.full(3, g, np.float32), axes=(0,)).numpy().astype(float)
    np.testing.assert_allclose(np.sqrt(np.sum(w**2, axis=0)), g, rtol=1e-5)
