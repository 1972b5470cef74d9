"""Problem 1, the proof: are the hand-written normalizations those of the library, beside floating-point error?

For batch, layer and weight normalization: the difference of outputs and of the gradients with respect to the input and
every parameter, ours against Keras's or TensorFlow Probability's layer, torch's, and central finite differences, in
float64 and float32; the difference along 300 steps of training; and the size of the differences that are not rounding.

    python ist597_norms/p1_check_gradients.py                  the full protocol, about 5 min on one CPU core
    python ist597_norms/p1_check_gradients.py --preset quick   fewer shapes, seeds and steps, about 30 s

Writes report/results/p1_check_gradients/*.json and their summary, and figures/p1_check_gradients.png and .svg.
"""

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from ist597_norms import norms
from ist597_norms.cnn import CNN, one_thread_each
from utils import plotting
from utils.cli import parse_args
from utils.provenance import provenance
from utils.runs import run_all, write_summary

STEM = "p1_check_gradients"
EPS = 1e-3  # Keras's default, given to every side
TWINS = {"batch": "keras_batch", "layer": "keras_layer", "weight": "tfp_weight"}
# Odd sizes, a batch of two; a mean a hundred deviations away, and a variance below eps.
SHAPES = {
    "dense": (7, 5),
    "dense, batch of 2": (2, 9),
    "convolution": (3, 7, 5, 4),
    "convolution, batch of 2": (2, 5, 3, 3),
}
INPUTS = {"standard": (0.0, 1.0), "large mean": (100.0, 1.0), "tiny variance": (0.5, 1e-3)}  # (mean, deviation)
DTYPES = ("float64", "float32")
QUANTITIES = {"batch": ("output", "dx", "dgamma", "dbeta"), "layer": ("output", "dx", "dgamma", "dbeta"),
              "weight": ("output", "dx", "dv", "dg")}  # fmt: skip
DTYPE_COLORS = {"float64": plotting.PURPLE, "float32": plotting.ORANGE}
DIFFERENCE_STEP = 1e-6  # central differences in float64: about the cube root of the rounding unit
PRESETS = {
    "full": {"shapes": list(SHAPES), "inputs": list(INPUTS), "seeds": 3, "steps": 300},
    "quick": {"shapes": ["dense", "convolution"], "inputs": ["standard"], "seeds": 1, "steps": 20},
}


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
        tensors = {"x": x, "v": v, "g": rng.normal(1, 0.5, units), "b": np.zeros(units)}
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
    rank = len(x.shape)
    if norm == "batch":
        return norms.batch_norm(x, tensors["gamma"], tensors["beta"], axes=tuple(range(rank - 1)), eps=EPS)[0]
    if norm == "layer":
        return norms.layer_norm(x, tensors["gamma"], tensors["beta"], axes=tuple(range(1, rank)), eps=EPS)
    w = norms.weight_norm(tensors["v"], tensors["g"], axes=tuple(range(rank - 1)))
    return x @ w if rank == 2 else tf.nn.conv2d(x, w, 1, "SAME")


def with_gradients(forward, tensors: dict, names: list[str]) -> dict[str, np.ndarray]:
    """Return the output of forward(tensors) and the gradients d<name> of sum(weights * output), as arrays."""
    variables = {name: tf.Variable(value) for name, value in tensors.items()}
    with tf.GradientTape() as tape:
        output = forward(variables)
        loss = tf.reduce_sum(variables["weights"] * output)
    gradients = tape.gradient(loss, [variables[name] for name in names])
    return {"output": output.numpy(), **{f"d{n}": g.numpy() for n, g in zip(names, gradients, strict=True)}}


def by_library(norm: str, tensors: dict, names: list[str]) -> dict[str, np.ndarray]:
    """Return the same from Keras's layer, or TensorFlow Probability's WeightNorm around a Keras layer."""
    x, dtype = tensors["x"], tensors["x"].dtype.name
    if norm == "weight":
        import tensorflow_probability as tfp
        import tf_keras

        units = len(tensors["g"])
        inner = tf_keras.layers.Dense(units, dtype=dtype) if x.ndim == 2 else tf_keras.layers.Conv2D(
            units, 3, padding="same", dtype=dtype
        )  # fmt: skip
        layer = tfp.layers.weight_norm.WeightNorm(inner, data_init=False, dtype=dtype)
        layer(x)  # the first call builds the layer and sets g = ||v||, whatever it was
        layer.v.assign(tensors["v"])
        layer.g.assign(tensors["g"])
        parameters, arguments = {"v": layer.v, "g": layer.g}, {}
    else:
        axes = list(range(1, x.ndim))
        layer = (
            tf.keras.layers.BatchNormalization(epsilon=EPS, dtype=dtype)
            if norm == "batch"
            else tf.keras.layers.LayerNormalization(axis=axes, epsilon=EPS, dtype=dtype)
        )
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
    return {"output": output.numpy(), **{f"d{n}": g.numpy() for n, g in zip(names, gradients, strict=True)}}


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
    return {"output": output.detach().numpy(), **{f"d{n}": g.numpy() for n, g in zip(names, gradients, strict=True)}}


def by_differences(norm: str, tensors: dict, names: list[str]) -> dict[str, np.ndarray]:
    """Return our output and the gradients of the loss by central differences, one entry at a time."""
    output = ours(norm, {name: tf.constant(value) for name, value in tensors.items()}).numpy()
    found = {"output": output}
    for name in names:
        gradient = np.zeros_like(tensors[name])
        step = DIFFERENCE_STEP * max(1.0, np.abs(tensors[name]).max()) * min(1.0, tensors[name].std())
        for index in np.ndindex(gradient.shape):
            losses = []
            for sign in (1, -1):
                shifted = tensors[name].copy()
                shifted[index] += sign * step
                z = ours(norm, {**{n: tf.constant(v) for n, v in tensors.items()}, name: tf.constant(shifted)})
                losses.append(np.sum(tensors["weights"] * (z.numpy() - output)))
            gradient[index] = (losses[0] - losses[1]) / (2 * step)
        found[f"d{name}"] = gradient
    return found


REFERENCES = {"library": by_library, "torch": by_torch, "differences": by_differences}


def configs(preset: str) -> list[dict]:
    """Return the comparisons, the trajectories and the demonstrations."""
    size = PRESETS[preset]
    runs = []
    for norm in TWINS:
        for dtype in DTYPES:
            for reference in REFERENCES:
                if reference == "differences" and dtype == "float32":
                    continue  # rounding would swamp the difference
                for shape in size["shapes"]:
                    for values in size["inputs"]:
                        name = f"{norm}_{dtype}_{reference}_{shape}_{values}".replace(",", "").replace(" ", "-")
                        runs.append({"name": name, "kind": "gradients", "norm": norm, "dtype": dtype,
                                     "reference": reference, "shape": shape, "values": values, "seeds": size["seeds"],
                                     "seed": 0})  # fmt: skip
    for norm in TWINS:
        for dtype in DTYPES:
            runs.append({"name": f"trajectory_{norm}_{dtype}", "kind": "trajectory", "norm": norm, "dtype": dtype,
                         "steps": size["steps"], "seed": 0})  # fmt: skip
    runs += [
        {"name": f"demonstration_{name}", "kind": "demonstration", "demonstration": name, "seed": 0}
        for name in DEMONSTRATIONS
    ]
    return runs


def run(config: dict) -> dict:
    """Return the differences of one comparison, trajectory or demonstration."""
    one_thread_each()  # in float32 the order of a sum decides where two trajectories part
    if config["kind"] == "trajectory":
        return trajectory(config)
    if config["kind"] == "demonstration":
        return {"difference": DEMONSTRATIONS[config["demonstration"]](np.random.default_rng(config["seed"]))}
    norm, worst = config["norm"], {}
    names = [quantity[1:] for quantity in QUANTITIES[norm][1:]]
    for seed in range(config["seed"], config["seed"] + config["seeds"]):
        tensors = case(norm, config["shape"], config["values"], config["dtype"], seed)
        mine = with_gradients(lambda t: ours(norm, t), tensors, names)
        theirs = REFERENCES[config["reference"]](norm, tensors, names)
        for quantity in QUANTITIES[norm]:
            difference = np.max(np.abs(mine[quantity] - theirs[quantity]))
            if not np.isfinite(difference):
                raise ValueError(f"{config['name']}: the difference of {quantity} is {difference}")
            size = np.max(np.abs(theirs[quantity]))
            old = worst.get(quantity, {"maximum": 0.0, "relative": 0.0})
            worst[quantity] = {
                "maximum": max(old["maximum"], difference),
                "relative": max(old["relative"], difference / size),
            }
    return {"precision": config["dtype"], "worst": worst}


def trajectory(config: dict) -> dict:
    """Train the whole CNN and its twin on the same minibatches from the same weights; return the gap at each step.

    The gap is the largest difference of any trained number, relative to the largest of its tensor.
    """
    rng = np.random.default_rng(config["seed"])
    dtype = tf.as_dtype(config["dtype"])
    first, second = (CNN(100, 10, normalization=kind, dtype=dtype) for kind in (config["norm"], TWINS[config["norm"]]))
    gaps, losses = [], []
    for _ in range(config["steps"]):
        labels = rng.integers(0, 10, 32)
        images = rng.normal(size=(32, 28, 28, 1)) * 0.3
        # Each class is a bright band at its own height: the loss falls and the weights move.
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 6] += 1
        one_hot = np.eye(10)[labels]
        losses.append(float(first.backward(images, one_hot)))
        second.backward(images, one_hot)
        gaps.append(np.max([np.max(np.abs(a - b)) / np.max(np.abs(a)) for a, b in matching(first, second)]))
    return {"precision": config["dtype"], "gap": gaps, "loss": losses}


def matching(first: CNN, second: CNN) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the pairs of trained numbers, and of running statistics, of a hand-written network and of its twin.

    Only the biases in front of a batch norm are left out: their gradient is zero, and they stay zero.
    """
    if first.normalization == "weight":
        conv, dense = second.twins
        pairs = [(first.W1, conv.v), (first.g[0], conv.g), (first.b1, conv.layer.bias), (first.W2, dense.v),
                 (first.g[1], dense.g), (first.b2, dense.layer.bias)]  # fmt: skip
        names = ("W3", "b3")
    else:
        pairs = []
        names = ("W1", "W2", "W3", "b3") if first.normalization == "batch" else ("W1", "b1", "W2", "b2", "W3", "b3")
        for index, twin in enumerate(second.twins):
            pairs += [(first.gamma[index], twin.gamma.value), (first.beta[index], twin.beta.value)]
            if first.normalization == "batch":
                pairs += [(first.moving_mean[index], twin.moving_mean.value),
                          (first.moving_variance[index], twin.moving_variance.value)]  # fmt: skip
    pairs += [(getattr(first, name), getattr(second, name)) for name in names]
    return [(ours.numpy(), theirs.numpy()) for ours, theirs in pairs]


def _features(rng):
    return tf.constant(rng.normal(0.5, 1.0, (64, 6, 6, 8)))


def _eps(rng):
    x = tf.constant(rng.normal(0.5, 0.02, (64, 8)))
    one, zero = tf.ones(8, tf.float64), tf.zeros(8, tf.float64)
    return float(tf.reduce_max(tf.abs(norms.batch_norm(x, one, zero, axes=(0,), eps=1e-5)[0]
                                      - norms.batch_norm(x, one, zero, axes=(0,), eps=1e-3)[0])))  # fmt: skip


def _eps_outside(rng):
    x = rng.normal(0.5, 0.02, (64, 8))
    centered = x - x.mean(axis=0)
    return float(np.abs(centered / np.sqrt(x.var(axis=0) + EPS) - centered / (np.sqrt(x.var(axis=0)) + EPS)).max())


def _running_variance(rng):
    import torch

    x = _features(rng)[:2, :1, :1]  # a batch of two values for each channel: N / (N - 1) = 2
    one, zero = tf.ones(8, tf.float64), tf.zeros(8, tf.float64)
    ours = norms.batch_norm(x, one, zero, axes=(0, 1, 2), eps=EPS)[2].numpy()
    theirs = torch.nn.BatchNorm2d(8, momentum=1.0, dtype=torch.float64)  # torch's momentum is the new value's weight
    theirs(torch.tensor(x.numpy()).permute(0, 3, 1, 2))
    return float(np.max(np.abs(theirs.running_var.numpy() - ours) / ours))


def _layer_axes(rng):
    x = _features(rng)
    one, zero = tf.ones(8, tf.float64), tf.zeros(8, tf.float64)
    over_channels = norms.layer_norm(x, one, zero, axes=(3,), eps=EPS)
    shape = x.shape[1:]
    return float(tf.reduce_max(tf.abs(over_channels - norms.layer_norm(
        x, tf.ones(shape, tf.float64), tf.zeros(shape, tf.float64), axes=(1, 2, 3), eps=EPS))))  # fmt: skip


# Differences that are no rounding: largest difference of outputs, or (running variance) relative difference.
DEMONSTRATIONS = {
    "eps 1e-5 against 1e-3": _eps,
    "eps outside the root": _eps_outside,
    "unbiased running variance, batch of 2": _running_variance,
    "layer norm over C against H, W, C": _layer_axes,
}


def summarise(frame) -> dict:
    """Return for each dtype, norm, reference and quantity the largest differences; the trajectories' ends."""
    summary = {"protocol": {"eps": EPS}}
    compared = frame[frame.kind == "gradients"]
    for dtype in DTYPES:
        summary[dtype] = {"max_relative_difference": {}, "max_difference": {}}
        for kind, key in (("relative", "max_relative_difference"), ("maximum", "max_difference")):
            for (norm, reference), rows in compared[compared.dtype == dtype].groupby(["norm", "reference"]):
                worst = {q: max(row[q][kind] for row in rows.worst) for q in QUANTITIES[norm]}
                summary[dtype][key].setdefault(norm, {})[reference] = worst
    summary["trajectory"] = {
        f"{row.norm}_{row.dtype}": {
            "steps": len(row.gap),
            "first": row.gap[0],
            "last": row.gap[-1],
            "largest": max(row.gap),
            "first_loss": row.loss[0],
            "last_loss": row.loss[-1],
        }
        for row in frame[frame.kind == "trajectory"].itertuples()
    }
    shown = frame[frame.kind == "demonstration"]
    summary["demonstrations"] = dict(zip(shown.demonstration, shown.difference, strict=True))
    return summary


def draw(frame, summary: dict) -> Figure:
    """Return the figure: largest relative differences by quantity, and the gap along training."""
    figure, axes = plotting.subplots(1, 2, height=2.8)
    bars, path = axes[0]
    labels = []
    for norm in TWINS:
        for quantity in QUANTITIES[norm]:
            for dtype, color in DTYPE_COLORS.items():
                for reference, marker in (("library", "o"), ("torch", "x")):
                    value = summary[dtype]["max_relative_difference"][norm][reference][quantity]
                    if value > 0:  # equal to the last bit: no point on a logarithmic axis
                        bars.plot(value, len(labels), marker, color=color, markersize=3.5)
            labels.append(f"{norm}, {quantity}")
    bars.set_yticks(range(len(labels)), labels)
    bars.set(xscale="log", xlabel="largest relative difference", xlim=(1e-17, 1e-2))
    bars.invert_yaxis()
    for marker, label in (("o", "Keras / TFP"), ("x", "torch")):
        bars.plot([], [], marker, color="0.4", label=label)
    for dtype, color in DTYPE_COLORS.items():
        bars.plot([], [], "s", color=color, label=f"a: {dtype}")
    for row in frame[frame.kind == "trajectory"].itertuples():
        style = "-" if row.dtype == "float64" else "--"
        color, label = plotting.COLORS[row.norm], f"b: {row.norm}, {row.dtype}"
        steps = np.arange(1, len(row.gap) + 1)
        path.plot(steps, np.maximum(row.gap, 1e-17), style, color=color, linewidth=1, label=label)
    path.set(yscale="log", xlabel="step", ylabel="largest relative gap of a weight")
    handles = [*bars.get_legend_handles_labels()[0], *path.get_legend_handles_labels()[0]]
    figure.legend(handles, [handle.get_label() for handle in handles], loc="outside lower center", ncols=4)
    plotting.label_panels(axes)
    return figure


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figure and write the summary."""
    options = parse_args(__doc__, argv)
    tf.get_logger().setLevel("ERROR")  # TensorFlow Probability's layer is traced anew for every shape, and says so
    frame = run_all(STEM, run, configs(options.preset), options)
    summary = {**summarise(frame), "provenance": provenance(frame)}
    plotting.save(draw(frame, summary), STEM, options)
    write_summary(STEM, summary, options)


if __name__ == "__main__":
    main()
