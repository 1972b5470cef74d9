"""What problem 1's comparison looks at inside a network: what its ReLUs get, what is left of the gradient.

relu_activity(model, images)["active"]                          shares of positive inputs, a layer each
surviving_shares(Probed(100, 10, normalization="batch"), ...)    of the gradient, below the normalization
"""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from ist597_norms.cnn import CNN

# Of the histogram of a ReLU's inputs; what lies beyond counts in the first and the last.
BINS = np.linspace(-24, 24, 121)


def relu_activity(model: CNN, images: np.ndarray) -> dict[str, np.ndarray]:
    """Return what the ReLUs get from images (n, h, w, c), NaN for a layer whose inputs are not all finite.

    "active" (layers,): the share of the inputs that are positive; "dead" (layers,): the number of units that are
    positive for no image; "deviation" (layers,) and "histogram" (layers, bins) of the inputs.
    """
    layers = []
    for inputs in model.relu_inputs(images):
        values = inputs.numpy().reshape(-1, inputs.shape[-1])
        finite = np.isfinite(values).all()
        values = values if finite else np.zeros_like(values)
        positive = values > 0
        measured = {
            "active": positive.mean(),
            "dead": np.sum(~positive.any(axis=0)),
            "histogram": np.histogram(np.clip(values, BINS[0], BINS[-1]), BINS)[0],
            "deviation": values.std(dtype=float),
        }
        layers.append(measured if finite else {key: value * np.nan for key, value in measured.items()})
    return {key: np.array([layer[key] for layer in layers]) for key in layers[0]}


class Probed(CNN):
    """The network that remembers what went into the affine layer's normalization, and what came out of it."""

    def _normalize(self, X, index, training):
        z = super()._normalize(X, index, training)
        self.seen = X, z
        return z


def surviving_shares(
    model: Probed, images: np.ndarray, one_hot: np.ndarray, batches: Iterable[np.ndarray]
) -> list[float]:
    """Return, for each minibatch of indices (m,), what the network's affine normalization leaves of the gradient.

    That is |sigma dL/dx|^2 / |dL/dz|^2 over all units and images, x the normalization's input and z its output, with
    gamma = 1. For m values with the statistics in common and a gradient of no particular direction it is (m - 2) / m,
    beside eps: the bracket of the gradient takes out what lies along 1 and along x-hat.
    """
    shares = []
    for batch in batches:
        with tf.GradientTape() as tape:
            loss = model.loss(model.forward(images[batch], training=True), one_hot[batch])
        x, z = model.seen
        above, below = tape.gradient(loss, [z, x])
        axis = 0 if model.normalization == "batch" else 1
        variance = tf.math.reduce_variance(x, axis, keepdims=True) + model.eps
        shares.append(float(tf.reduce_sum(variance * tf.square(below)) / tf.reduce_sum(tf.square(above))))
    return shares
