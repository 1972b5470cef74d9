"""The same normalization by hand, by Keras or TensorFlow Probability, by torch, and its gradients by differences.

network("keras_batch", 100, 10)              the assignment's network with the library's layers
tensors = case("batch", "convolution", "large mean", "float64", seed=0)      random inputs of a comparison
mine = with_gradients(lambda t: ours("batch", t), tensors, ["x", "gamma"])   {"output", "dx", "dgamma"}, as arrays
theirs = REFERENCES["library"]("batch", tensors, ["x", "gamma"])             the same from someone else
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ist597_norms import norms
from ist597_norms.cnn import CNN, EPS, FILTERS, MOMENTUM, WINDOW

TWINS = {"batch": "keras_batch", "layer": "keras_layer", "weight": "tfp_weight"}  # of ours, the library's
BY_LIBRARY = {twin: norm for norm, twin in TWINS.items()}
# Odd sizes, a batch of two; a mean a hundred deviations away, and a variance below eps.
SHAPES = {
    "dense": (7, 5),
    "dense, batch of 2": (2, 9),
    "convolution": (3, 7, 5, 4),
    "convolution, batch of 2": (2, 5, 3, 3),
}
INPUTS = {"standard": (0.0, 1.0), "large mean": (100.0, 1.0), "tiny variance": (0.5, 1e-3)}  # (mean, deviation)
DIFFERENCE_STEP = 1e-6  # central differences in float64: about the cube root of the rounding unit


def case(norm: str, shape: str, values: str, dtype: str, seed: int) -> dict[str, np.ndarray]:
    """Return random inputs of a comparison: x, the parameters, and the weights of the loss sum(weights * output).

    Under the plain sum the gradient with respect to x is zero by symmetry, and a norm over wrong axes would pass.
    """
    rng = np.random.default_rng([seed, list(SHAPES).index(shape), list(INPUTS).index(values)])
    mean, deviation = INPUTS[values]
    x = rng.normal(mean, deviation, SHAPES[shape])
    if norm == "weight":
        units = 6
        v = rng.normal(size=(x.shape[-1], units) if x.ndim == 2 else (3, 3, x.shape[-1], units))
        tensors = {"x": x, "v": v, "g": rng.normal(1, 0.5, units)}
        output = (*x.shape[:-1], units)
    else:
        features = x.shape[-1:] if norm == "batch" else x.shape[1:]
        tensors = {"x": x, "gamma": rng.normal(1, 0.5, features), "beta": rng.normal(size=features)}
        output = x.shape
    tensors["weights"] = rng.normal(size=output)
    return {name: value.astype(dtype) for name, value in tensors.items()}


def ours(norm: str, tensors: dict) -> tf.Tensor:
    """Return the output of the hand-written normalization; for weight normalization, of the layer that uses it."""
    x = tensors["x"]
    if norm == "batch":
        return norms.batch_norm(x, tensors["gamma"], tensors["beta"], eps=EPS)[0]
    if norm == "layer":
        return norms.layer_norm(x, tensors["gamma"], tensors["beta"], eps=EPS)
    w = norms.weight_norm(tensors["v"], tensors["g"])
    return x @ w if len(x.shape) == 2 else tf.nn.conv2d(x, w, 1, "SAME")


def with_gradients(forward: Callable, tensors: dict, names: list[str]) -> dict[str, np.ndarray]:
    """Return the output of forward(tensors) and the gradients d<name> of sum(weights * output), as arrays."""
    variables = {name: tf.Variable(value) for name, value in tensors.items()}
    with tf.GradientTape() as tape:
        output = forward(variables)
        loss = tf.reduce_sum(variables["weights"] * output)
    gradients = tape.gradient(loss, [variables[name] for name in names])
    return _named(output, gradients, names)


def _named(output, gradients, names):
    """Return the output and the gradients d<name> as arrays."""
    arrays = {"output": output.numpy()}
    for name, gradient in zip(names, gradients, strict=True):
        arrays[f"d{name}"] = gradient.numpy()
    return arrays


def library_layer(
    norm: str, rank: int, *, dtype: str, eps: float = EPS, momentum: float = MOMENTUM, units: int = 1, window: int = 1
) -> Any:
    """Return Keras's layer of a normalization, of inputs with so many axes: 2 or, with images, 4.

    For "weight" it is TensorFlow Probability's WeightNorm around an affine layer, or a convolution with windows of
    `window` by `window`, of so many `units`.
    """
    if norm == "batch":
        return tf.keras.layers.BatchNormalization(epsilon=eps, momentum=momentum, dtype=dtype)
    if norm == "layer":
        return tf.keras.layers.LayerNormalization(axis=list(range(1, rank)), epsilon=eps, dtype=dtype)
    import tensorflow_probability as tfp
    import tf_keras

    if rank == 2:
        inner = tf_keras.layers.Dense(units, dtype=dtype)
    else:
        inner = tf_keras.layers.Conv2D(units, window, padding="same", dtype=dtype)
    return tfp.layers.weight_norm.WeightNorm(inner, data_init=False, dtype=dtype)


def by_library(norm: str, tensors: dict, names: list[str]) -> dict[str, np.ndarray]:
    """Return the same from Keras's layer, or TensorFlow Probability's WeightNorm around a Keras layer."""
    x, dtype = tensors["x"], tensors["x"].dtype.name
    if norm == "weight":
        layer = library_layer(norm, x.ndim, dtype=dtype, units=len(tensors["g"]), window=3)
        layer(x)  # the first call builds the layer and sets g = ||v||, whatever it was
        layer.v.assign(tensors["v"])
        layer.g.assign(tensors["g"])
        parameters, arguments = {"v": layer.v, "g": layer.g}, {}
    else:
        layer = library_layer(norm, x.ndim, dtype=dtype)
        layer.build(x.shape)
        layer.gamma.assign(tensors["gamma"])
        layer.beta.assign(tensors["beta"])
        parameters = {"gamma": layer.gamma.value, "beta": layer.beta.value}
        arguments = {"training": True} if norm == "batch" else {}
    variable = tf.Variable(x)
    with tf.GradientTape() as tape:
        output = layer(variable, **arguments)
        loss = tf.reduce_sum(tensors["weights"] * output)
    gradients = tape.gradient(loss, [variable if name == "x" else parameters[name] for name in names])
    return _named(output, gradients, names)


def by_torch(norm: str, tensors: dict, names: list[str]) -> dict[str, np.ndarray]:
    """Return the same from torch's functions, as a second library; its channels come first."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)  # with more, the order of a sum would depend on the machine
    t = {name: torch.tensor(value, requires_grad=name in names) for name, value in tensors.items()}
    convolutional = t["x"].ndim == 4
    x = t["x"].permute(0, 3, 1, 2) if convolutional else t["x"]
    if norm == "batch":
        output = functional.batch_norm(x, None, None, t["gamma"], t["beta"], training=True, eps=EPS)
    elif norm == "layer":
        output = functional.layer_norm(t["x"], t["x"].shape[1:], t["gamma"], t["beta"], eps=EPS)
    else:
        v = t["v"].permute(3, 2, 0, 1) if convolutional else t["v"].T
        w = torch._weight_norm(v, t["g"].reshape(-1, *[1] * (v.ndim - 1)), 0)
        output = functional.conv2d(x, w, padding=1) if convolutional else functional.linear(x, w)
    if convolutional and norm != "layer":
        output = output.permute(0, 2, 3, 1)
    gradients = torch.autograd.grad((t["weights"] * output).sum(), [t[name] for name in names])
    return _named(output.detach(), gradients, names)


def by_differences(norm: str, tensors: dict, names: list[str]) -> dict[str, np.ndarray]:
    """Return our output and the gradients of the loss by central differences, one entry at a time."""
    constants = {name: tf.constant(value) for name, value in tensors.items()}
    output = ours(norm, constants).numpy()
    arrays = {"output": output}
    for name in names:
        gradient = np.zeros_like(tensors[name])
        step = DIFFERENCE_STEP * max(1.0, np.abs(tensors[name]).max()) * min(1.0, tensors[name].std())
        for index in np.ndindex(gradient.shape):
            losses = []
            for sign in (1, -1):
                shifted = tensors[name].copy()
                shifted[index] += sign * step
                z = ours(norm, {**constants, name: tf.constant(shifted)}).numpy()
                losses.append(np.sum(tensors["weights"] * (z - output)))
            gradient[index] = (losses[0] - losses[1]) / (2 * step)
        arrays[f"d{name}"] = gradient
    return arrays


REFERENCES = {"library": by_library, "torch": by_torch, "differences": by_differences}


class LibraryCNN(CNN):
    """The network with the library's layers in the place of ours: normalization "batch", "layer" or "weight".

    It starts from the same weights, and its variables stand in the order of CNN's.
    """

    def _add_normalization(self, shapes):
        choices = {"eps": self.eps, "momentum": self.momentum, "dtype": self.dtype.name}
        self.layers = [library_layer(self.normalization, 4, units=FILTERS, window=WINDOW, **choices)]
        for shape in shapes[1:]:
            self.layers.append(library_layer(self.normalization, 2, units=shape[0], **choices))
        if self.normalization == "weight":
            self._share_weights()
            return
        for layer, shape in zip(self.layers, shapes, strict=True):
            layer.build((None, *shape))
        if self.normalization == "batch":
            self.moving = [layer.moving_mean.value for layer in self.layers]
            self.moving += [layer.moving_variance.value for layer in self.layers]
        self.variables += [layer.gamma.value for layer in self.layers] + [layer.beta.value for layer in self.layers]

    def _share_weights(self):
        """Give TensorFlow Probability's layers, which hold v, g and b themselves, our v, and g = ||v||."""
        for index, (layer, v) in enumerate(zip(self.layers, self.W, strict=True)):
            layer.build((None, *(self.image_shape if index == 0 else v.shape[:1])))
            layer.v.assign(v)
            layer.g.assign(norms.unit_norms(v))
        theirs = {id(ours): layer.v for ours, layer in zip(self.W, self.layers, strict=True)}
        theirs |= {id(ours): layer.layer.bias for ours, layer in zip(self.b, self.layers, strict=True)}
        self.variables = [theirs.get(id(ours), ours) for ours in self.variables]
        self.variables += [layer.g for layer in self.layers]

    def _linear(self, X, index):
        return self.layers[index](X) if self.normalization == "weight" else super()._linear(X, index)

    def _normalize(self, X, index, training):
        if self.normalization == "batch":
            return self.layers[index](X, training=training)
        return self.layers[index](X) if self.normalization == "layer" else X


def network(mode: str, hidden_size: int, output_size: int, **choices: Any) -> CNN:
    """Return the network with a normalization by hand ("batch") or by the library ("keras_batch"); choices as CNN's."""
    if mode in BY_LIBRARY:
        return LibraryCNN(hidden_size, output_size, normalization=BY_LIBRARY[mode], **choices)
    return CNN(hidden_size, output_size, normalization=mode, **choices)
