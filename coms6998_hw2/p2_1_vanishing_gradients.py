"""Question 2.1: vanishing and exploding gradients, and which initialization keeps them in range.

Explain the vanishing gradient with tanh and sigmoid under normal weights of several standard deviations; show how
Glorot's (Xavier's) initialization helps; show that for ReLU He's works better. The network of Perunicic's article on
MNIST: a linear layer of 100 units, five hidden layers of 100, softmax over 10, biases zero.

    python coms6998_hw2/p2_1_vanishing_gradients.py                  the full protocol, about 15 min on two CPU cores
    python coms6998_hw2/p2_1_vanishing_gradients.py --preset quick   fewer seeds, epochs and images, about 30 s

Writes report/results/p2_1_vanishing_gradients/*.json and their summary, figures/p2_1_vanishing_gradients.png (gradients
and training) and one figure of violins for each activation, ..._tanh, ..._sigmoid, ..._relu; each also as .svg.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from coms6998_hw2.problem_2.deep_network import DEPTH, build, forward, predict_variance
from coms6998_hw2.problem_2.vanishing_gradients_figures import draw, draw_violins
from utils import data, machine, plotting
from utils.cli import DEFAULTS, Options, parse_args
from utils.intervals import geometric_interval, mean_interval
from utils.records import floats, write_summary
from utils.runs import sweep

STEM = "p2_1_vanishing_gradients"
DEEP = 20  # hidden layers of a second ReLU network, where a factor of sqrt(2) for each layer is no longer small
STANDARD_DEVIATIONS = [0.01, 0.05, 0.10, 0.14, 0.28, 1.0]  # the article's 0.10, 0.14, 0.28, two below and one above
SCHEMES = {"tanh": ["glorot"], "sigmoid": ["glorot", "glorot_x4"], "relu": ["glorot", "he"]}
BATCH_SIZE, LEARNING_RATE = 64, 0.1  # plain SGD: its step is proportional to the gradient, so a vanished one shows
DEEP_LEARNING_RATE = 0.03  # at 0.1 one of five deep networks with He's weights diverged
SATURATED = {"tanh": (-0.99, 0.99), "sigmoid": (0.01, 0.99), "relu": (0.0, np.inf)}  # outside: no gradient to speak of
DEVIATIONS = np.geomspace(0.007, 1.4, 40)  # at which the theory is drawn
QUANTILES = np.linspace(0, 1, 51)  # what is kept of each layer's distribution


@dataclass(frozen=True)
class Preset:
    """What the presets differ in."""

    seeds: int
    epochs: int
    train_images: int
    test_images: int


PRESETS = {
    "full": Preset(seeds=5, epochs=5, train_images=60_000, test_images=10_000),
    "quick": Preset(seeds=2, epochs=1, train_images=3_000, test_images=500),
}


def configs(preset: str) -> list[dict]:
    """Return the runs: every activation with every initialization, and the deep ReLU network, for each seed."""
    size = PRESETS[preset]
    settings = []
    for activation, schemes in SCHEMES.items():
        for scheme in [*(f"{std:g}" for std in STANDARD_DEVIATIONS), *schemes]:
            settings.append((activation, scheme, DEPTH))
    for scheme in SCHEMES["relu"]:
        settings.append(("relu", scheme, DEEP))
    runs = []
    for activation, scheme, depth in settings:
        for seed in range(size.seeds):
            config = {
                "name": f"{setting_name(activation, scheme, depth)}_seed{seed}",
                "dataset": "mnist",
                "activation": activation,
                "scheme": scheme,
                "depth": depth,
                "batch_size": BATCH_SIZE,
                "learning_rate": LEARNING_RATE if depth == DEPTH else DEEP_LEARNING_RATE,
                "seed": seed,
            }
            runs.append(config | {key: getattr(size, key) for key in ("epochs", "train_images", "test_images")})
    for activation in SCHEMES:
        config = {"name": f"theory_{activation}", "measured": "theory", "dataset": "mnist", "activation": activation}
        runs.append(config | {"depth": DEPTH, "seed": 0, "test_images": size.test_images})
    for seed in range(size.seeds):
        config = {"name": f"images_{DEEP}_layers_seed{seed}", "measured": "images", "dataset": "mnist"}
        config |= {"activation": "relu", "scheme": "he", "depth": DEEP, "seed": seed}
        runs.append(config | {"test_images": size.test_images})
    return runs


def setting_name(activation: str, scheme: str, depth: int) -> str:
    """Return the setting's key in the summary, such as tanh_0.01, relu_he or relu_he_20_layers."""
    return f"{activation}_{scheme}" if depth == DEPTH else f"{activation}_{scheme}_{depth}_layers"


def run(config: dict, options: Options = DEFAULTS) -> dict:
    """Measure one network at initialization on the test images, then train it; return lists by layer or by epoch."""
    device = machine.torch_device(options.device)
    torch.set_num_threads(1)  # a network this small keeps one core busy; the sweep uses the others
    if "measured" in config:
        images, _ = data.load(config["dataset"], options.data_dir, train=False, first=config["test_images"])
        pixels = torch.tensor(images).flatten(1).float() / 255
        if config["measured"] == "theory":
            return {
                "environment": {"precision": "float64", "device": "cpu"},
                **theory_by_deviation(config["activation"], pixels),
            }
        layers = build(28 * 28, config["scheme"], config["seed"], config["depth"])
        return {"environment": {"precision": "float32", "device": "cpu"}, **varying(layers, pixels)}
    parts = {}
    for part in ("train", "test"):
        first = config[f"{part}_images"]
        x, y = data.load(config["dataset"], options.data_dir, train=part == "train", first=first)
        parts[part] = (torch.tensor(x).flatten(1).float() / 255).to(device), torch.tensor(y).to(device)
    layers = build(parts["test"][0].shape[1], config["scheme"], config["seed"], config["depth"]).to(device)
    return {
        "environment": {"precision": "float32", "device": device.type},
        **measure(layers, config["activation"], *parts["test"]),
        **theory(config, parts["test"][0]),
        **train(layers, config, *parts["train"]),
    }


def measure(layers: nn.ModuleList, activation: str, x: torch.Tensor, y: torch.Tensor) -> dict:
    """Return the layers' activations and gradients on x (n, d), y (n,): root mean squares, quantiles, shares.

    Gradients are those of an image's own cross-entropy with respect to its activations, and of the mean cross-entropy
    with respect to the weights.
    """
    logits, before, after = forward(layers, activation, x)
    loss = nn.functional.cross_entropy(logits, y, reduction="sum")
    weights = [layer.weight for layer in layers[1:-1]]
    gradients = torch.autograd.grad(loss, [*after, *weights])
    by_activation, by_weight = gradients[: len(after)], [gradient / len(x) for gradient in gradients[len(after) :]]
    low, high = SATURATED[activation]
    outside = []
    for h in after:
        finite = torch.isfinite(h).all()
        outside.append(torch.where(finite, ((h <= low) | (h >= high)).float(), math.nan))
    return {
        "rms_preactivation": [rms(z) for z in before],
        "rms_activation": [rms(h) for h in after],
        "rms_gradient_activation": [rms(g) for g in by_activation],
        "rms_gradient_weight": [rms(g) for g in by_weight],
        "saturated": [share.mean().item() for share in outside],
        "dead_units": [share.amin(dim=0).mean().item() for share in outside],  # outside for every image
        "quantiles_preactivation": [quantiles(z) for z in before],
        "quantiles_activation": [quantiles(h) for h in after],
        "quantiles_gradient_activation": [quantiles(g) for g in by_activation],
        "quantiles_gradient_weight": [quantiles(g) for g in by_weight],
    }


@torch.no_grad()
def varying(layers: nn.ModuleList, x: torch.Tensor) -> dict:
    """Return how much each hidden ReLU layer's inputs differ between images x (n, d), and its units' signs.

    "image_share": of the inputs' mean square, the part that is variance over images. "never_active" and
    "always_active": the shares of units that are positive for no image, and for every image.
    """
    shares: dict[str, list] = {"image_share": [], "never_active": [], "always_active": []}
    inputs = layers[0](x)
    _, before, after = forward(layers, "relu", x)
    for z, h in zip(before, after, strict=True):
        exact = inputs.double()
        shares["image_share"].append(float(exact.var(dim=0, correction=0).mean() / exact.square().mean()))
        shares["never_active"].append(float((z <= 0).all(dim=0).float().mean()))
        shares["always_active"].append(float((z > 0).all(dim=0).float().mean()))
        inputs = h
    return shares


def rms(values: torch.Tensor) -> float:
    """Return the root mean square, summed in float64."""
    return values.detach().cpu().double().square().mean().sqrt().item()


def quantiles(values: torch.Tensor) -> list[float]:
    """Return the 51 equally spaced quantiles, to four significant digits."""
    return [float(f"{q:.4g}") for q in np.quantile(values.detach().cpu().numpy(), QUANTILES)]


def theory(config: dict, x: torch.Tensor) -> dict:
    """Return the theory's root mean squares for the images x (n, d), from 50 quantiles of their norms."""
    q, g = predict_variance(config["activation"], config["scheme"], squared_norms(x), x.shape[1], config["depth"])
    return {"theory_rms_preactivation": np.sqrt(q), "theory_relative_gradient": np.sqrt(g)}


def theory_by_deviation(activation: str, x: torch.Tensor) -> dict:
    """Return the theory's gradient of layer 1 over layer 5's, root mean squares, for weights of each of DEVIATIONS."""
    norms, ratios = squared_norms(x), []
    for deviation in DEVIATIONS:
        _, g = predict_variance(activation, str(deviation), norms, x.shape[1], DEPTH)
        ratios.append(np.sqrt(g[0]))
    return {"deviations": DEVIATIONS, "gradient": ratios}


def squared_norms(x: torch.Tensor) -> np.ndarray:
    """Return 50 quantiles of the images' |x|^2, x (n, d), each of a fiftieth of them."""
    return np.quantile(x.cpu().double().square().sum(dim=1).numpy(), (np.arange(50) + 0.5) / 50)


def train(layers: nn.ModuleList, config: dict, x: torch.Tensor, y: torch.Tensor) -> dict:
    """Train by plain SGD; return the loss and accuracy on all of x (n, d), y (n,) before it and after each epoch."""
    optimizer = torch.optim.SGD(layers.parameters(), lr=config["learning_rate"], fused=True)
    generator = torch.Generator().manual_seed(config["seed"] + 1000)  # not the one that has drawn the weights
    losses, accuracies = [], []
    for epoch in range(config["epochs"] + 1):
        with torch.no_grad():
            logits = forward(layers, config["activation"], x)[0]
            losses.append(nn.functional.cross_entropy(logits, y).item())
            finite = bool(torch.isfinite(logits).all())  # NaN is no class, though argmax takes it for the first
            accuracies.append((logits.argmax(dim=1) == y).float().mean().item() if finite else math.nan)
        if epoch == config["epochs"]:
            break
        for batch in torch.randperm(len(x), generator=generator).to(x.device).split(config["batch_size"]):
            optimizer.zero_grad()
            logits = forward(layers, config["activation"], x[batch])[0]
            nn.functional.cross_entropy(logits, y[batch]).backward()
            optimizer.step()
    return {"train_loss": losses, "train_accuracy": accuracies}


def summarise(frame: pd.DataFrame) -> dict:
    """Return for each activation and initialization the gradient's ratio, saturation, training, and the theory."""
    images, predicted = (frame[frame.measured == kind].set_index("activation") for kind in ("images", "theory"))
    frame = frame[frame.measured.isna()]
    first = frame.iloc[0]
    protocol = {key: first[key] for key in ("dataset", "epochs", "batch_size")}
    for part in ("train", "test"):  # as many as there are, where fewer are than were asked for
        protocol[f"{part}_images"] = min(first[f"{part}_images"], data.SIZES[first.dataset][part])
    protocol |= {"learning_rate": LEARNING_RATE, "deep_learning_rate": DEEP_LEARNING_RATE}
    protocol |= {"seeds": frame.seed.nunique(), "saturated": SATURATED["tanh"][1]}
    summary: dict[str, Any] = {"protocol": protocol, "settings": []}
    for (activation, scheme, depth), rows in frame.groupby(["activation", "scheme", "depth"], sort=False):
        name = setting_name(activation, scheme, depth)
        summary["settings"].append({"name": name, "activation": activation, "scheme": scheme, "depth": depth})
        summary[name] = describe(rows, depth)
    summary["between_images"] = {
        key: [mean_interval(layer) for layer in floats(images[key]).T]
        for key in ("image_share", "never_active", "always_active")
    }
    summary["theory"] = {
        name: {key: row[key] for key in ("deviations", "gradient")} for name, row in predicted.iterrows()
    }
    for depth in (DEPTH, DEEP):
        relu = frame[(frame.activation == "relu") & (frame.depth == depth)]
        summary[f"relu_glorot_over_he_{depth}_layers"] = glorot_over_he(relu)
    return summary


def describe(rows: pd.DataFrame, depth: int) -> dict:
    """Return the numbers of one setting, over its seeds: by layer at the start, and after training."""
    gradient = floats(rows.rms_gradient_activation)  # (seeds, layers), like the next ones
    expected = floats(rows.theory_relative_gradient)[0]
    loss = floats(rows.train_loss)[:, -1]
    return {
        f"gradient_ratio_layer{depth}_to_layer1": geometric_interval(gradient[:, -1] / gradient[:, 0]),
        "gradient_ratio_theory": 1 / expected[0],
        "relative_gradient": [geometric_interval(layer) for layer in (gradient / gradient[:, -1:]).T],
        "relative_gradient_theory": expected,
        "saturated": [mean_interval(layer) for layer in floats(rows.saturated).T],
        "dead_units": [mean_interval(layer) for layer in floats(rows.dead_units).T],
        "train_loss": mean_interval(loss),
        "diverged": int(np.isnan(loss).sum()),
    }


def glorot_over_he(rows: pd.DataFrame) -> dict:
    """Return the ratio of the training losses with Glorot's and with He's weights, seed by seed; both are finite."""
    losses = rows.pivot(index="seed", columns="scheme", values="train_loss")[["glorot", "he"]].dropna()
    ratio = floats(losses.glorot)[:, 1:] / floats(losses.he)[:, 1:]  # (seeds, epochs)
    return {
        "first_epoch": geometric_interval(ratio[:, 0]),
        "last_epoch": geometric_interval(ratio[:, -1]),
        "all_epochs": geometric_interval(np.exp(np.mean(np.log(ratio), axis=1))),
    }


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figures and write the summary."""
    options = parse_args(__doc__, argv)
    frame = sweep(STEM, run, configs(options.preset), options)
    summary, networks = summarise(frame), frame[frame.measured.isna()]
    figures = {STEM: draw(networks, summary)} | {f"{STEM}_{name}": draw_violins(networks, name) for name in SCHEMES}
    for name, figure in figures.items():
        plotting.save(figure, name, options, frame.dataset.iloc[0])
    write_summary(STEM, summary, options, frame)


if __name__ == "__main__":
    main()
