"""How far other definitions of the normalizations are from ours: differences that are no rounding.

DEMONSTRATIONS["eps outside the root"](np.random.default_rng(0))      the largest difference of an output
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import tensorflow as tf

from ist597_norms import norms
from ist597_norms.cnn import EPS

SMALL_DEVIATION = 0.02  # of inputs whose variance is below eps


def _ones_and_zeros(shape):
    """Return gamma = 1 and beta = 0 in float64."""
    return tf.ones(shape, tf.float64), tf.zeros(shape, tf.float64)


def _other_eps(rng, deviation=SMALL_DEVIATION):
    x = tf.constant(rng.normal(0.5, deviation, (64, 8)))
    kerass = norms.batch_norm(x, *_ones_and_zeros(8), eps=EPS)[0]
    torchs = norms.batch_norm(x, *_ones_and_zeros(8), eps=1e-5)[0]
    return float(tf.reduce_max(tf.abs(torchs - kerass)))


def _eps_outside(rng, deviation=SMALL_DEVIATION):
    x = rng.normal(0.5, deviation, (64, 8))
    centered, variance = x - x.mean(axis=0), x.var(axis=0)
    return float(np.max(np.abs(centered / np.sqrt(variance + EPS) - centered / (np.sqrt(variance) + EPS))))


def _running_variance(rng):
    import torch

    x = rng.normal(0.5, 1.0, (64, 6, 6, 8))[:2, :1, :1]  # a batch of two values for each channel: N / (N - 1) = 2
    mine = norms.batch_norm(tf.constant(x), *_ones_and_zeros(8), eps=EPS)[2].numpy()
    theirs = torch.nn.BatchNorm2d(8, momentum=1.0, dtype=torch.float64)  # torch's momentum is the new value's weight
    theirs(torch.tensor(x).permute(0, 3, 1, 2))
    return float(np.max(np.abs(theirs.get_buffer("running_var").numpy() - mine) / mine))


def _layer_axes(rng):
    x = tf.constant(rng.normal(0.5, 1.0, (64, 6, 6, 8)))
    over_channels = norms.layer_norm(tf.reshape(x, (-1, 8)), *_ones_and_zeros(8), eps=EPS)
    over_all = norms.layer_norm(x, *_ones_and_zeros((6, 6, 8)), eps=EPS)
    return float(tf.reduce_max(tf.abs(tf.reshape(over_channels, x.shape) - over_all)))


# Differences that are no rounding: largest difference of outputs, or (running variance) relative difference. The first
# and third are for inputs of SMALL_DEVIATION.
DEMONSTRATIONS: dict[str, Callable] = {
    "eps 1e-5 against 1e-3": _other_eps,
    "eps 1e-5 against 1e-3, deviation 1": partial(_other_eps, deviation=1.0),
    "eps outside the root": _eps_outside,
    "eps outside the root, deviation 1": partial(_eps_outside, deviation=1.0),
    "unbiased running variance, batch of 2": _running_variance,
    "layer norm over C against H, W, C": _layer_axes,
}
