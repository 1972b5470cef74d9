"""The network of question 2.1: its initializations, its forward pass, and what mean-field theory expects of both.

layers = build(784, "glorot", seed=0)                                  inputs -> 100, five of 100 -> 100, 100 -> 10
logits, before, after = forward(layers, "tanh", x)                     with the hidden layers' (pre-)activations
q, g = predict_variance("tanh", "glorot", squared_norms, inputs=784)   mean squares of signal and gradient by layer
"""

from itertools import pairwise

import numpy as np
import torch
from torch import nn

DEPTH, WIDTH, CLASSES = 5, 100, 10  # the article's network
ACTIVATIONS = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu}


def standard_deviation(scheme: str, fan_in: int, fan_out: int) -> float:
    """Return the weights' standard deviation: sqrt(2 / (fan_in + fan_out)), sqrt(2 / fan_in), or the number named.

    Glorot and Bengio (2010), equation 12, is the variance; He et al. (2015), equation 10. "glorot_x4" is four times
    Glorot's deviation, the usual remedy for the sigmoid, whose slope at zero is one quarter.
    """
    if scheme in ("glorot", "glorot_x4"):
        return float(np.sqrt(2 / (fan_in + fan_out))) * (4 if scheme == "glorot_x4" else 1)
    if scheme == "he":
        return float(np.sqrt(2 / fan_in))
    return float(scheme)


def build(inputs: int, scheme: str, seed: int, depth: int = DEPTH, width: int = WIDTH) -> nn.ModuleList:
    """Return the linear layers, drawn independently: inputs -> width, `depth` of width -> width, width -> 10."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [inputs, *[width] * (depth + 1), CLASSES]
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        layer = nn.Linear(fan_in, fan_out)
        nn.init.zeros_(layer.bias)
        nn.init.normal_(layer.weight, std=standard_deviation(scheme, fan_in, fan_out), generator=generator)
        layers.append(layer)
    return nn.ModuleList(layers)


def forward(layers: nn.ModuleList, activation: str, x: torch.Tensor) -> tuple[torch.Tensor, list, list]:
    """Return the logits (n, 10) and the hidden layers' pre-activations and activations, each (n, width)."""
    before, after = [], []
    x = layers[0](x)
    for layer in layers[1:-1]:
        before.append(layer(x))
        after.append(ACTIVATIONS[activation](before[-1]))
        x = after[-1]
    return layers[-1](x), before, after


def predict_variance(
    activation: str, scheme: str, squared_norms: np.ndarray, inputs: int, depth: int = DEPTH, width: int = WIDTH
) -> tuple[np.ndarray, np.ndarray]:
    """Return what mean-field theory expects of an infinitely wide such network (Poole et al. 2016; Schoenholz 2017).

    squared_norms (n,) are the images' |x|^2. In a hidden layer of weights of variance s^2, the pre-activation of an
    image is Gaussian with variance q, and q' = width s^2 E[f(sqrt(q) z)^2]; a gradient that goes back through the
    layer is multiplied in the mean square by chi = width s^2 E[f'(sqrt(q) z)^2], z ~ N(0, 1).
    Returns (q (depth,), the mean square pre-activation of each hidden layer, and g (depth,), the mean square gradient
    with respect to its activations, relative to the last one), averaged over the images.
    """
    variance = standard_deviation(scheme, width, width) ** 2
    q = squared_norms * standard_deviation(scheme, inputs, width) ** 2 * width * variance  # the first layer is linear
    q_layers, chi_layers = [], []
    for _ in range(depth):
        square, slope = gaussian_moments(activation, np.sqrt(q))
        q_layers.append(q)
        chi_layers.append(width * variance * slope)
        q = width * variance * square
    backward = np.cumprod([np.ones_like(q), *chi_layers[:0:-1]], axis=0)[::-1]
    return np.mean(q_layers, axis=1), np.mean(backward, axis=1)


def gaussian_moments(activation: str, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return E[f(scale z)^2] and E[f'(scale z)^2], z ~ N(0, 1), for each scale (n,): in closed form or by quadrature.

    The trapezoidal rule on a grid that is finer than the step of a saturated tanh, 1 / scale.
    """
    if activation == "relu":
        return scale**2 / 2, np.full_like(scale, 0.5)
    squares, slopes = [], []
    for s in scale:
        z = np.linspace(-8, 8, int(16 * 20 * max(1.0, s)) + 1)
        density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
        t = np.tanh(s * z if activation == "tanh" else s * z / 2)
        value, slope = (t, 1 - t**2) if activation == "tanh" else ((1 + t) / 2, (1 - t**2) / 4)
        squares.append(np.trapezoid(density * value**2, z))
        slopes.append(np.trapezoid(density * slope**2, z))
    return np.array(squares), np.array(slopes)
