"""Batch, layer and weight normalization, written as in their papers in basic TensorFlow operations.

x is (n, features) at an affine layer and (n, height, width, channels) at a convolution; float32 or float64. Parameters
lie on the trailing axes and broadcast. Variances are biased, eps stands inside the root, and x is centered before it is
squared: E[x^2] - E[x]^2 cancels for a large mean. Gradients come from tf.GradientTape.

The assignment's names stand at the end. Only what TensorFlow itself would pass over in silence is refused here.
"""

import tensorflow as tf

NOT_FINITE = "the variance is not finite: values this large, or not finite themselves, cannot be normalized"
NO_DIRECTION = "weight_norm: v is zero or not finite for a unit, which then has no direction"


def batch_norm(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, *, eps: float) -> tuple[tf.Tensor, ...]:
    """Return z like x, each feature normalized over the minibatch, and the mean and variance that did it.

    gamma, beta, mean and variance (features,) or (channels,). Ioffe and Szegedy (2015), algorithm 1; a channel's values
    are those at all positions (section 3.2). tf.errors.InvalidArgumentError: fewer than two values, or NOT_FINITE.
    """
    minibatch = list(range(len(x.shape) - 1))  # every axis but the last
    mean = tf.reduce_mean(x, minibatch)
    tf.debugging.assert_greater(tf.size(x), tf.size(mean), "batch_norm: one value has no variance")
    centered = x - mean
    variance = tf.reduce_mean(tf.square(centered), minibatch)
    variance = tf.debugging.check_numerics(variance, NOT_FINITE)
    x_hat = centered * (1 / tf.sqrt(variance + eps))  # one division a feature, not one a value
    z = gamma * x_hat + beta
    return z, mean, variance


def batch_norm_inference(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor, *, eps: float
) -> tf.Tensor:
    """Return z like x, normalized with running statistics (features,).

    Ioffe and Szegedy (2015), algorithm 2, but for its factor m / (m - 1) of the variance: Keras has none either.
    """
    x_hat = (x - mean) * (1 / tf.sqrt(variance + eps))
    return gamma * x_hat + beta


def update_moving(moving: tf.Tensor, batch: tf.Tensor, *, momentum: float) -> tf.Tensor:
    """Return the running statistic after another minibatch; momentum is the weight of its OLD value, as in Keras."""
    return momentum * moving + (1 - momentum) * batch


def layer_norm(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, *, eps: float) -> tf.Tensor:
    """Return z like x, each example normalized over all its own features.

    gamma, beta (features,) or (height, width, channels). Ba, Kiros and Hinton (2016), equations 3 and 4; a single
    feature gives beta. tf.errors.InvalidArgumentError: NOT_FINITE.
    """
    features = list(range(1, len(x.shape)))  # every axis but the first
    mean = tf.reduce_mean(x, features, keepdims=True)
    centered = x - mean
    variance = tf.reduce_mean(tf.square(centered), features, keepdims=True)
    variance = tf.debugging.check_numerics(variance, NOT_FINITE)
    x_hat = centered * (1 / tf.sqrt(variance + eps))
    return gamma * x_hat + beta


def unit_norms(v: tf.Tensor) -> tf.Tensor:
    """Return ||v|| (units,), the Euclidean norm of each unit's weights; v as in `weight_norm`."""
    inputs = list(range(len(v.shape) - 1))  # every axis but the last
    return tf.sqrt(tf.reduce_sum(tf.square(v), inputs))


def weight_norm(v: tf.Tensor, g: tf.Tensor) -> tf.Tensor:
    """Return the weights w = g v / ||v|| like v, one length g (units,) for each unit.

    v (inputs, units) or (height, width, inputs, units). Salimans and Kingma (2016), equation 2.
    tf.errors.InvalidArgumentError: NO_DIRECTION.
    """
    norm = tf.debugging.check_numerics(unit_norms(v), NO_DIRECTION)
    tf.debugging.assert_positive(norm, NO_DIRECTION)
    return g * v / norm


def weight_norm_init(v: tf.Tensor, preactivations: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return g and b (units,) that give one minibatch pre-activations of mean 0 and standard deviation 1.

    preactivations (..., units) are those of the weights v, without bias. Salimans and Kingma (2016), equations 5 and 6.
    tf.errors.InvalidArgumentError: a unit's pre-activations do not vary beyond rounding.
    """
    t = preactivations / unit_norms(v)
    minibatch = list(range(len(t.shape) - 1))
    mean = tf.reduce_mean(t, minibatch)
    deviation = tf.sqrt(tf.reduce_mean(tf.square(t - mean), minibatch))
    tf.debugging.assert_greater(deviation, 1e-6 * tf.abs(mean), "a unit's pre-activations do not vary")
    return 1 / deviation, -mean / deviation


BatchNorm, LayerNorm, WeightNorm = batch_norm, layer_norm, weight_norm
