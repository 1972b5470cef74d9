"""Batch, layer and weight normalization in basic TensorFlow operations, as pure functions.

    z, mean, variance = batch_norm(x, gamma, beta, axes=(0, 1, 2), eps=1e-3)    in training
    z = batch_norm_inference(x, gamma, beta, mean, variance, eps=1e-3)          at test time, with running statistics
    z = layer_norm(x, gamma, beta, axes=(1, 2, 3), eps=1e-3)
    w = weight_norm(v, g, axes=(0, 1, 2))

The assignment calls them BatchNorm, LayerNorm and WeightNorm; its modified file, which uses them, is `cnn.py`.

Variances are biased (divided by N), eps stands inside the root, and x is centered before it is squared: E[x^2] - E[x]^2
cancels for a large mean. Any floating dtype, of which half precision is computed in float32, as Keras does: there sums
would overflow or stall. Eager or inside tf.function; gradients by tf.GradientTape.
"""

import math

import numpy as np
import tensorflow as tf

NO_DIRECTION = "weight_norm: v is zero or not finite for a unit, which then has no direction"
NOT_FINITE = "the variance is not finite: values this large, or not finite themselves, cannot be normalized"


def batch_norm(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, *, axes: tuple[int, ...], eps: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalize with the minibatch's own statistics; return z like x, and the mean and variance, shaped like gamma.

    x (N, d) with axes (0,), or (N, H, W, C) with axes (0, 1, 2); gamma, beta (d,) or (C,). Ioffe and Szegedy (2015),
    algorithm 1. The statistics of half precision are float32. Raises ValueError for eps <= 0, axes that x does not
    have, gamma or beta of another shape, and for axes that hold no value in each feature, which have no mean, or a
    single one, whose variance is zero whatever it is; where sizes are known in the graph only,
    tf.errors.InvalidArgumentError (which XLA leaves out), and that, with NOT_FINITE, where a variance is not finite.
    """
    x, gamma, beta, axes = _check(x, gamma, beta, axes, eps, parameters_over="kept")
    dtype = x.dtype
    x, gamma, beta = _in_single(x), _in_single(gamma), _in_single(beta)
    _check_several(x, axes)
    mean = tf.reduce_mean(x, axis=axes, keepdims=True)
    centered = x - mean
    variance = tf.reduce_mean(tf.square(centered), axis=axes, keepdims=True)
    variance = tf.debugging.check_numerics(variance, NOT_FINITE)
    shape = tf.shape(mean)
    scale = tf.reshape(gamma, shape) / tf.sqrt(variance + eps)  # gamma joins it first: one pass over x less
    z = scale * centered + tf.reshape(beta, shape)
    return tf.cast(z, dtype), tf.reshape(mean, tf.shape(gamma)), tf.reshape(variance, tf.shape(gamma))


def batch_norm_inference(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor, *, eps: float
) -> tf.Tensor:
    """Normalize x (..., C) with given statistics: mean, variance, gamma and beta (C,); return z like x.

    Ioffe and Szegedy (2015), algorithm 2. Raises ValueError for eps <= 0 and shapes that differ.
    """
    x = _as_floating(x, "x")
    x, gamma, beta, _ = _check(x, gamma, beta, tuple(range(x.shape.rank - 1)), eps, parameters_over="kept")
    dtype = x.dtype
    x, gamma, beta = _in_single(x), _in_single(gamma), _in_single(beta)
    mean, variance = _in_single(_like(mean, x)), _in_single(_like(variance, x))
    for name, value in (("mean", mean), ("variance", variance)):
        if not value.shape.is_compatible_with(gamma.shape):
            raise ValueError(f"{name} has shape {value.shape}, gamma {gamma.shape}; they must be equal")
    return tf.cast(gamma / tf.sqrt(variance + eps) * (x - mean) + beta, dtype)


def update_moving(moving: tf.Tensor, batch: tf.Tensor, *, momentum: float) -> tf.Tensor:
    """Return momentum * moving + (1 - momentum) * batch: momentum is the weight of the OLD value, as in Keras.

    Raises ValueError for a momentum outside [0, 1] and for shapes that differ.
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum is {momentum}; it must lie between 0 and 1")
    if not moving.shape.is_compatible_with(batch.shape):
        raise ValueError(f"the running value has shape {moving.shape}, the batch's {batch.shape}; they must be equal")
    return momentum * moving + (1 - momentum) * tf.cast(batch, moving.dtype)


def layer_norm(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, *, axes: tuple[int, ...], eps: float) -> tf.Tensor:
    """Normalize each example over its own features; return z like x.

    x (N, d) with axes (1,), or (N, H, W, C) with axes (1, 2, 3); gamma, beta of the normalized axes' shape, (d,) or
    (H, W, C). Ba, Kiros and Hinton (2016), equation 3. Raises ValueError as `batch_norm` does, but a single
    feature is allowed: its output is beta.
    """
    x, gamma, beta, axes = _check(x, gamma, beta, axes, eps, parameters_over="reduced")
    dtype = x.dtype
    x, gamma, beta = _in_single(x), _in_single(gamma), _in_single(beta)
    centered = x - tf.reduce_mean(x, axis=axes, keepdims=True)
    variance = tf.reduce_mean(tf.square(centered), axis=axes, keepdims=True)
    variance = tf.debugging.check_numerics(variance, NOT_FINITE)
    shape = [tf.shape(x)[axis] if axis in axes else 1 for axis in range(x.shape.rank)]
    normalized = centered * (1 / tf.sqrt(variance + eps))  # one division for each example, not for each feature
    return tf.cast(tf.reshape(gamma, shape) * normalized + tf.reshape(beta, shape), dtype)


def weight_norm(v: tf.Tensor, g: tf.Tensor, *, axes: tuple[int, ...]) -> tf.Tensor:
    """Return the weights w = g v / ||v||, one norm for each output unit, shaped like v.

    v (in, out) with axes (0,), or (h, w, in, out) with axes (0, 1, 2); g (out,). Salimans and Kingma (2016), equation
    2. Raises ValueError for axes that v does not have and for a g of another shape, and
    tf.errors.InvalidArgumentError, with NO_DIRECTION, where a unit's v is zero, or its norm not finite (it diverged).
    """
    v = _as_floating(v, "v")
    g = _like(g, v)
    axes = _check_axes(v, axes, "v")
    _check_shape("g", g, [v.shape[axis] for axis in range(v.shape.rank) if axis not in axes], v, axes)
    dtype = v.dtype
    v, g = _in_single(v), _in_single(g)
    v = v / _scale(v, axes)  # neither lengths nor g v leave the dtype's range
    norm = tf.sqrt(tf.reduce_sum(tf.square(v), axis=axes, keepdims=True))
    finite = tf.where(tf.math.is_finite(norm), norm, tf.zeros_like(norm))
    tf.debugging.assert_positive(finite, NO_DIRECTION)
    return tf.cast(tf.reshape(g, tf.shape(norm)) * v / norm, dtype)


def unit_norms(v: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
    """Return ||v|| (out,), the Euclidean norm of each output unit's weights; v and axes as in `weight_norm`."""
    dtype = v.dtype
    v = _in_single(tf.convert_to_tensor(v))
    scale = _scale(v, axes)
    norm = scale * tf.sqrt(tf.reduce_sum(tf.square(v / scale), axis=axes, keepdims=True))
    return tf.cast(tf.squeeze(norm, axes), dtype)


def _scale(v, axes):
    """Return by what each unit's weights are divided before they are squared: 1 or, beyond the dtype, their largest.

    It counts as a constant: what is computed with it does not depend on it.
    """
    smallest = v.dtype.max**-0.4  # whose square keeps its digits; the square of its inverse is far from infinity
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(v), axis=axes, keepdims=True))
    usual = (largest > smallest) & (largest < 1 / smallest)
    odd = tf.math.is_finite(largest) & (largest > 0) & ~usual
    return tf.where(odd, largest, tf.ones_like(largest))


def weight_norm_init(v: tf.Tensor, preactivations: tf.Tensor, *, axes: tuple[int, ...]) -> tuple[tf.Tensor, tf.Tensor]:
    """Return (g, b), (out,) each, that give one minibatch pre-activations of mean 0 and standard deviation 1.

    v as in `weight_norm`; preactivations (..., out) are those of the weights v, without bias. With t = v . x / ||v||:
    g = 1 / std[t] and b = -mean[t] / std[t] (Salimans and Kingma 2016, equations 5 and 6). Raises ValueError for
    shapes that do not fit, and tf.errors.InvalidArgumentError where a unit's pre-activations do not vary.
    """
    v = _as_floating(v, "v")
    preactivations = _like(preactivations, v)
    axes = _check_axes(v, axes, "v")
    dtype = v.dtype
    v, preactivations = _in_single(v), _in_single(preactivations)
    norm = unit_norms(v, axes)
    if not preactivations.shape[-1:].is_compatible_with(norm.shape):
        raise ValueError(
            f"preactivations have shape {preactivations.shape}; the last axis must be v's units {norm.shape}"
        )
    t = preactivations / norm
    over = tuple(range(t.shape.rank - 1))
    mean = tf.reduce_mean(t, axis=over)
    variance = tf.debugging.check_numerics(tf.reduce_mean(tf.square(t - mean), axis=over), NOT_FINITE)
    deviation = tf.sqrt(variance)
    # A constant's rounded mean leaves a deviation of the order of the rounding unit.
    rounding = 10 * np.finfo(v.dtype.as_numpy_dtype).eps * tf.abs(mean)
    tf.debugging.assert_positive(
        deviation - rounding, "weight_norm_init: a unit's pre-activations do not vary over the minibatch"
    )
    return tf.cast(1 / deviation, dtype), tf.cast(-mean / deviation, dtype)


def _as_floating(x, name):
    x = tf.convert_to_tensor(x)
    if not x.dtype.is_floating or x.shape.rank is None:
        raise ValueError(f"{name} is {x.dtype.name} of shape {x.shape}; it must be floating, its number of axes known")
    return x


def _like(value, x):
    """Return a parameter as a tensor of x's dtype or, beside half precision and not itself in it, of float32."""
    if x.dtype.size < tf.float32.size and not (tf.is_tensor(value) and value.dtype == x.dtype):
        return tf.convert_to_tensor(value, tf.float32)
    return tf.convert_to_tensor(value, x.dtype)


def _in_single(x):
    """Return x, in float32 if it is in half precision."""
    return tf.cast(x, tf.float32) if x.dtype.size < tf.float32.size else x


def _check_several(x, axes):
    """Refuse x with fewer than two values over the axes, now or, where sizes are not known yet, when they are."""
    sizes = [x.shape[axis] for axis in axes]
    if None in sizes:
        count = tf.reduce_prod([tf.shape(x)[axis] for axis in axes])
        tf.debugging.assert_greater(count, 1, f"batch_norm needs more than one value for each feature over axes {axes}")
        return
    count = math.prod(sizes)
    if count <= 1:
        raise ValueError(
            f"batch_norm needs more than one value for each feature; x {x.shape} has {count} over axes {axes}"
        )


def _check(x, gamma, beta, axes, eps, parameters_over):
    """Return x, gamma and beta as tensors of one dtype, and the axes as numbers from 0."""
    x = _as_floating(x, "x")
    if not (eps > 0 and x.dtype.as_numpy_dtype(eps) > 0):
        raise ValueError(f"eps is {eps}; it must be positive, also in {x.dtype.name}")
    gamma, beta = _like(gamma, x), _like(beta, x)
    axes = _check_axes(x, axes, "x")
    wanted = [x.shape[axis] for axis in range(x.shape.rank) if (axis in axes) == (parameters_over == "reduced")]
    for name, value in (("gamma", gamma), ("beta", beta)):
        _check_shape(name, value, wanted, x, axes)
    return x, gamma, beta, axes


def _check_axes(x, axes, name):
    rank = x.shape.rank
    if not axes or any(not -rank <= axis < rank for axis in axes):
        raise ValueError(f"axes are {axes}; {name} has shape {x.shape}, so choose some of 0 to {rank - 1}")
    axes = tuple(axis % rank for axis in axes)
    if len(set(axes)) < len(axes):
        raise ValueError(f"axes {axes} name one axis twice")
    return axes


def _check_shape(name, value, wanted, x, axes):
    if not value.shape.is_compatible_with(tf.TensorShape(wanted)):
        raise ValueError(
            f"{name} has shape {value.shape}; for shape {x.shape} and axes {axes} it must be {tuple(wanted)}"
        )
