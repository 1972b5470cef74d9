"""The normalizations' unusual inputs: what TensorFlow would pass over in silence is refused."""

import numpy as np
import pytest
import tensorflow as tf

from ist597_norms import norms

X, ONE = tf.ones((4, 3)), tf.ones(3)
LARGE = tf.constant(np.random.default_rng(0).normal(0, 1e20, (4, 3)), tf.float32)  # whose squares float32 does not hold


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda x: norms.batch_norm(x, 1.0, 0.0, eps=1e-3), "the variance is not finite"),
        (lambda x: norms.layer_norm(x, 1.0, 0.0, eps=1e-3), "the variance is not finite"),
        (lambda x: norms.weight_norm(x, ONE), "v is zero or not finite"),
    ],
)
@pytest.mark.parametrize("bad", [LARGE, tf.fill((4, 3), float("nan")), tf.fill((4, 3), float("inf"))])
def test_what_is_not_finite_is_an_error_in_both_modes(call, named, bad):
    for mode in (call, tf.function(call)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=named):
            mode(bad)


def test_a_unit_without_a_direction_is_an_error_in_both_modes():
    v = tf.constant([[1.0, 0.0, 2.0], [3.0, 0.0, 4.0]])
    for mode in (norms.weight_norm, tf.function(norms.weight_norm)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="v is zero or not finite"):
            mode(v, ONE)


@pytest.mark.parametrize("value", [1.0, 0.1])  # the mean of the second is rounded
def test_preactivations_that_do_not_vary_give_no_start(value):
    with pytest.raises(tf.errors.InvalidArgumentError, match="do not vary"):
        norms.weight_norm_init(X, tf.fill((7, 3), value))


@pytest.mark.parametrize("n", [0, 1])
def test_a_batch_without_a_variance_is_refused(n):
    with pytest.raises(tf.errors.InvalidArgumentError, match="one value has no variance"):
        norms.batch_norm(tf.ones((n, 3)), 1.0, 0.0, eps=1e-3)

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32)])
    def compiled(x):
        return norms.batch_norm(x, 1.0, 0.0, eps=1e-3)[1]

    with pytest.raises(tf.errors.InvalidArgumentError, match="one value has no variance"):
        compiled(tf.ones((n, 3)))
    assert np.all(np.isfinite(compiled(tf.ones((2, 3)))))


def test_numpy_arrays_and_lists_are_taken():
    x = np.random.default_rng(0).normal(size=(4, 3))
    z, mean, variance = norms.batch_norm(x, np.ones(3), [0.0] * 3, eps=1e-3)
    np.testing.assert_allclose(z, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3), rtol=1e-12)
    again = norms.batch_norm_inference(x, [1.0] * 3, [0.0] * 3, mean.numpy(), variance.numpy(), eps=1e-3)
    np.testing.assert_allclose(again, z, rtol=1e-12)
    np.testing.assert_allclose(norms.unit_norms(norms.weight_norm(x, np.array([1.0, 2.0, 3.0]))), [1, 2, 3])
