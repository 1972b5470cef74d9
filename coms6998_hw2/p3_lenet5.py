"""Problem 3: batch normalization, dropout, and both, in LeNet-5 on MNIST.

3.1 What are co-adaptation and internal covariate shift?
3.2 Standardized input and batch norm in the hidden layers: what are the learned parameters of each layer?
3.3 Batch norm at the input instead of standardization: does it improve performance? Violin plots of the parameters.
3.4 Dropout (0.2 at the input, 0.5 in hidden layers) instead of batch norm: how do the test accuracies compare?
3.5 Both: how do they compare with either alone?

    python coms6998_hw2/p3_lenet5.py                  the full protocol, about 2 h on two CPU cores, resumable
    python coms6998_hw2/p3_lenet5.py --preset quick   fewer images, seeds, rates and epochs, about 30 s

Writes report/results/p3_lenet5/*.json and their summary, and figures/p3_lenet5.png (curves and test accuracy),
_violins.png (3.3), _causes.png (3.1: co-adaptation, covariate and variance shift) and _images.png; each also as .svg.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional

from coms6998_hw2.layer_statistics import co_adaptation, drift, inputs_of, noise_of_running_mean, variance_shift
from coms6998_hw2.models import HIDDEN_RATE, INPUT_RATE, LeNet5
from utils import data, plotting
from utils.cli import DEFAULTS, GPU_SHARE, Options, parse_args
from utils.runs import mean_interval, run_all, write_summary
from utils.training import Trainer, on_device, split_in_batches

STEM = "p3_lenet5"
VARIANTS = {
    "none": {},
    "bn": {"batch_norm": True},  # 3.2
    "bn_input": {"batch_norm": True, "batch_norm_input": True},  # 3.3
    "dropout": {"dropout": True},  # 3.4; rates 0.2 and 0.5, the assignment's
    "bn_dropout": {"batch_norm": True, "dropout": True},  # 3.5
    "dropout_bn": {"batch_norm": True, "dropout": True, "dropout_first": True},  # 3.5, the order that Li et al. warn of
}
LABELS = {"none": "neither", "bn": "batch norm", "bn_input": "batch norm, input too", "dropout": "dropout",
          "bn_dropout": "both", "dropout_bn": "both, dropout first"}  # fmt: skip
LAYERS = ("c1", "c3", "c5", "f6")
BATCH_SIZE, MOMENTUM = 64, 0.9
COMMON_RATE = 0.03
PADDING = 2  # 28 x 28 -> 32 x 32, as LeCun et al. (1998)
WATCHED = 10_000  # training images on which the training loss is measured after each epoch
MEASURED = 1000  # validation images on which the layers' statistics are measured
PRESETS = {
    # images: how many training images, and for how many epochs; fewer images need more epochs for enough updates.
    "full": {"seeds": 5, "rates": [0.01, 0.03, 0.1], "images": {55_000: 20, 5500: 40, 550: 100},
             "long_epochs": 40, "long_seeds": 3, "loaded": 60_000},
    "quick": {"seeds": 2, "rates": [0.03], "images": {1500: 2, 300: 2}, "long_epochs": 3, "long_seeds": 1,
              "loaded": 2000},
}  # fmt: skip


def config(preset: str, variant: str, rate: float, images: int, epochs: int, seed: int) -> dict:
    """Return the run of one network."""
    return {
        "name": f"{variant}_{images}images_rate{rate:g}_{epochs}epochs_seed{seed}",
        "dataset": "mnist",
        "loaded": PRESETS[preset]["loaded"],
        "variant": variant,
        "learning_rate": rate,
        "images": images,
        "epochs": epochs,
        "batch_size": BATCH_SIZE,
        "seed": seed,
    }


def configs(preset: str) -> list[dict]:
    """Return the runs that depend on no others: the common rate with every seed, the grid of rates with the first."""
    size = PRESETS[preset]
    images, epochs = next(iter(size["images"].items()))
    runs = [
        config(preset, variant, COMMON_RATE, images, epochs, seed)
        for seed in range(size["seeds"])
        for variant in VARIANTS
    ]
    return runs + [
        config(preset, variant, rate, images, epochs, 0)
        for rate in size["rates"]
        if rate != COMMON_RATE
        for variant in VARIANTS
    ]


def tuned_configs(preset: str, rates: dict[str, float]) -> list[dict]:
    """Return the runs at each variant's own rate: every seed, fewer images, and dropout with more epochs."""
    size = PRESETS[preset]
    main = next(iter(size["images"]))
    runs = [
        config(preset, variant, rate, images, epochs, seed)
        for images, epochs in size["images"].items()
        for seed in range(size["seeds"])
        for variant, rate in rates.items()
        if (images, rate) != (main, COMMON_RATE) and (images != main or seed > 0)
    ]
    return runs + [
        config(preset, variant, rates[variant], main, size["long_epochs"], seed)
        for seed in range(size["long_seeds"])
        for variant in ("bn", "dropout", "bn_dropout")
    ]


def best_rates(frame: pd.DataFrame) -> dict[str, float]:
    """Return each variant's learning rate of the best validation accuracy after the last epoch, seed 0."""
    grid = frame[frame.seed == 0]
    scored = grid.assign(score=[accuracies[-1] for accuracies in grid.validation_accuracy])
    best = {variant: rows.loc[rows.score.idxmax()].learning_rate for variant, rows in scored.groupby("variant")}
    return {variant: float(best[variant]) for variant in VARIANTS}


def cosine(rate: float, updates: int) -> np.ndarray:
    """Return the learning rate of each update: from `rate` to zero along half a cosine (Loshchilov and Hutter 2017)."""
    return rate * 0.5 * (1 + np.cos(np.pi * np.arange(updates) / updates))


def run(config: dict, options: Options = DEFAULTS) -> dict:
    """Train one network; return its losses and accuracies, its batch norms' parameters, and what question 3.1 asks.

    "train_*" (on 10,000 training images), "validation_*": after each epoch, in evaluation mode; "running_train_loss":
    the epoch's mean over minibatches, with dropout; "test_*" and the whole training set's "final_train_*": at the end.
    """
    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    device = options.torch_device()
    images, labels = data.load(config["dataset"], options.data_dir, train=True)
    images, labels = images[: config["loaded"]], labels[: config["loaded"]]
    training, validation = data.hold_out(labels)
    if config["images"] < len(training):
        # Other images for each seed: with few of them, which they are is a large part of the spread.
        training = training[data.split(labels[training], config["images"], config["seed"])[1]]
    model = LeNet5(**VARIANTS[config["variant"]])
    prepare = preparation(images[training], standardized=not VARIANTS[config["variant"]].get("batch_norm_input"))
    trainer = Trainer(model, device, prepare, learning_rate=config["learning_rate"], momentum=MOMENTUM)
    pixels, targets = on_device(images, labels, device)
    watched, held = torch.as_tensor(training[:WATCHED]), torch.as_tensor(validation)
    rng = np.random.default_rng([config["seed"], 1])
    updates = len(training) // config["batch_size"]
    rates = cosine(config["learning_rate"], updates * config["epochs"]).reshape(config["epochs"], updates)
    result = {key: [] for key in ("running_train_loss", "train_loss", "train_accuracy", "validation_loss",
                                  "validation_accuracy")}  # fmt: skip
    statistics = []
    for epoch in range(config["epochs"]):
        batches = split_in_batches(rng.permutation(training), config["batch_size"])
        losses = trainer.train(pixels, targets, batches, rates[epoch])
        result["running_train_loss"].append(losses.mean())
        for part, indices in (("train", watched), ("validation", held)):
            loss, accuracy = trainer.evaluate(pixels[indices], targets[indices])
            result[f"{part}_loss"].append(loss)
            result[f"{part}_accuracy"].append(accuracy)
        inputs = inputs_of(trainer, pixels[held[:MEASURED]], nn.Tanh)
        statistics.append({layer: (x.mean(0), x.std(0)) for layer, x in inputs.items()})
    result["final_train_loss"], result["final_train_accuracy"] = trainer.evaluate(
        pixels[torch.as_tensor(training)], targets[torch.as_tensor(training)]
    )
    test_images, test_labels = data.load(config["dataset"], options.data_dir, train=False)
    test = on_device(test_images[: config["loaded"]], test_labels[: config["loaded"]], device)
    result["test_loss"], result["test_accuracy"] = trainer.evaluate(*test)
    result["drift"], result["deviation_drift"] = drift(statistics), drift(statistics, of="deviation")
    outputs = inputs_of(trainer, pixels[held[:MEASURED]], nn.Linear)
    result["correlation"] = {layer: co_adaptation(outputs[name]) for layer, name in (("c5", "f6"), ("f6", "output"))}
    norms = model.batch_norms()
    result["gamma"] = {layer: norm.weight.tolist() for layer, norm in norms.items()}
    result["beta"] = {layer: norm.bias.tolist() for layer, norm in norms.items()}
    result["variance_shift"] = variance_shift(trainer, pixels[watched])
    return {"precision": "float32", "device": device.type, **result}


def preparation(images: np.ndarray, standardized: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function from pixels (n, 1, 28, 28), uint8, to the network's input (n, 1, 32, 32).

    Pixels are divided by 255 and padded with the background; `standardized`: with one mean and one standard deviation,
    those of the padded training `images` (n, 28, 28).
    """
    padded = np.pad(images, ((0, 0), (PADDING, PADDING), (PADDING, PADDING)))
    mean, deviation = (padded.mean() / 255, padded.std() / 255) if standardized else (0.0, 1.0)
    return lambda pixels: (functional.pad(pixels, [PADDING] * 4).float() / 255 - mean) / deviation


def summarise(frame: pd.DataFrame) -> dict:
    """Return accuracies and losses with intervals, paired differences, the norms' parameters, and 3.1's measures."""
    main, main_epochs = frame.images.max(), frame[frame.images == frame.images.max()].epochs.min()
    whole = frame[(frame.images == main) & (frame.epochs == main_epochs)]
    rates = best_rates(whole)
    seeds = frame.seed.nunique()
    tuned = {v: whole[(whole.variant == v) & (whole.learning_rate == rates[v])].set_index("seed") for v in VARIANTS}
    common = {v: whole[(whole.variant == v) & (whole.learning_rate == COMMON_RATE)].set_index("seed") for v in VARIANTS}
    test = {variant: rows.test_accuracy for variant, rows in tuned.items()}
    first = frame.iloc[0]
    summary = {
        "protocol": {"dataset": first.dataset, "seeds": seeds, "epochs": main_epochs, "images": main,
                     "rates": sorted(set(whole.learning_rate)), "common_rate": COMMON_RATE, "batch_size": BATCH_SIZE,
                     "momentum": MOMENTUM, "validation": data.held_out(first.loaded), "measured": MEASURED,
                     "watched": WATCHED, "input_rate": INPUT_RATE, "hidden_rate": HIDDEN_RATE},
        "learning_rate": rates,
        "common": {variant: mean_interval(rows.test_accuracy) for variant, rows in common.items()},
        "differences": {
            f"{a}_minus_{b}": mean_interval(test[a] - test[b])
            for a, b in (("bn", "none"), ("bn_input", "bn"), ("dropout", "none"), ("dropout", "bn"),
                         ("dropout", "bn_input"), ("bn_dropout", "bn"), ("bn_dropout", "dropout"),
                         ("bn_dropout", "none"), ("dropout_bn", "bn_dropout"))
        },
        "input_norm_changes": {
            key: (tuned["bn_input"][key] - tuned["bn"][key]).abs().max() for key in ("test_accuracy", "test_loss")
        },
        "beyond_the_sum": mean_interval(test["bn_dropout"] - test["bn"] - test["dropout"] + test["none"]),
        "images": {},
        "long": {},
    }  # fmt: skip
    for key in ("test_accuracy", "test_loss", "final_train_accuracy", "final_train_loss"):
        summary[key] = {variant: mean_interval(rows[key]) for variant, rows in tuned.items()}
    summary["running_train_loss"] = {
        variant: mean_interval([losses[-1] for losses in rows.running_train_loss]) for variant, rows in tuned.items()
    }
    for key in ("correlation", "variance_shift"):
        summary[key] = {variant: _by_layer(rows[key]) for variant, rows in tuned.items()}
    # A larger step moves everything further: drift is compared at the common one, and while the step is large.
    for key in ("drift", "deviation_drift"):
        summary[key] = {v: _by_layer(common[v][key].map(_first_half)) for v in ("none", "bn")}
    summary["last_drift"] = {v: mean_interval([run["c5"][-1] for run in common[v].drift]) for v in ("none", "bn")}
    summary["last_drift"]["theory"] = noise_of_running_mean(BATCH_SIZE)
    for key in ("gamma", "beta"):
        summary[key] = {v: _spread(tuned[v][key]) for v in ("bn", "bn_input", "bn_dropout", "dropout_bn")}
    for images, rows in frame[frame.images < main].groupby("images"):
        by_variant = {variant: part.set_index("seed") for variant, part in rows.groupby("variant")}
        scores = {variant: by_variant[variant].test_accuracy for variant in VARIANTS}
        summary["images"][str(images)] = {
            "epochs": rows.epochs.iloc[0],
            "train_accuracy": {v: mean_interval(by_variant[v].final_train_accuracy) for v in VARIANTS},
            "test_accuracy": {variant: mean_interval(scores[variant]) for variant in VARIANTS},
            "minus_none": {variant: mean_interval(scores[variant] - scores["none"]) for variant in VARIANTS},
        }
    longer = frame[(frame.images == main) & (frame.epochs > main_epochs)]
    for variant, rows in longer.groupby("variant"):
        scores = rows.set_index("seed").test_accuracy
        summary["long"][variant] = {
            "epochs": rows.epochs.iloc[0],
            "test_accuracy": mean_interval(scores),
            "minus_short": mean_interval((scores - test[variant]).dropna()),
        }
    return summary


def _by_layer(column) -> dict:
    """Return, by layer, the interval over seeds of a number, or of the mean of a list of numbers."""
    return {layer: mean_interval([np.mean(run[layer]) for run in column]) for layer in column.iloc[0]}


def _first_half(curves: dict) -> dict:
    """Return each layer's list of numbers, cut to the first half of its epochs."""
    return {layer: values[: (len(values) + 1) // 2] for layer, values in curves.items()}


def _spread(column) -> dict:
    """Return, by layer, how the parameters of all units and seeds are distributed, and the seeds' means."""
    summary = {}
    for layer in column.iloc[0]:
        values = np.array([run[layer] for run in column], float)  # (seeds, units)
        summary[layer] = {
            "units": values.shape[1],
            "mean": values.mean(),
            "deviation": values.std(),
            "least": values.min(),
            "greatest": values.max(),
            "seeds_mean": mean_interval(values.mean(axis=1)),
        }
    return summary


def chosen(frame: pd.DataFrame, summary: dict, variant: str, rate: float | None = None) -> pd.DataFrame:
    """Return the runs of a variant on all images, for the common number of epochs, at its own rate or another."""
    protocol = summary["protocol"]
    return frame[
        (frame.variant == variant)
        & (frame.learning_rate == (rate or summary["learning_rate"][variant]))
        & (frame.images == protocol["images"])
        & (frame.epochs == protocol["epochs"])
    ]


def draw(frame: pd.DataFrame, summary: dict) -> Figure:
    """Return the main figure: training and validation loss, evaluation mode, and test accuracy, every seed."""
    figure, axes = plotting.subplots(1, 3, height=2.7)
    for row, variant in enumerate(VARIANTS):
        rows, color = chosen(frame, summary, variant), plotting.COLORS[variant]
        for ax, key in zip(axes[0, :2], ("train_loss", "validation_loss"), strict=True):
            plotting.show_seeds(ax, rows[key], color, first=1, label=LABELS[variant])
        plotting.show_end(axes[0, 2], row, rows.test_accuracy, summary["test_accuracy"][variant], color)
    axes[0, 0].set(xlabel="epoch", ylabel="training loss", yscale="log")
    axes[0, 1].set(xlabel="epoch", ylabel="validation loss", yscale="log")
    axes[0, 2].set(xlabel="test accuracy", yticks=[])
    axes[0, 2].invert_yaxis()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    plotting.label_panels(axes)
    return figure


def draw_violins(frame: pd.DataFrame, summary: dict) -> Figure:
    """Return question 3.3's figure: the distribution of gamma and beta in each layer, with and without input norm."""
    figure, axes = plotting.subplots(2, 1, height=4.2, sharex=True)
    layers = ("input", *LAYERS)
    for offset, variant in ((-0.2, "bn"), (0.2, "bn_input")):
        rows = chosen(frame, summary, variant)
        for ax, key in zip(axes[:, 0], ("gamma", "beta"), strict=True):
            for position, layer in enumerate(layers):
                values = [value for run in rows[key] for value in run.get(layer, [])]
                if len(values) > len(rows):
                    color = plotting.COLORS[variant]
                    plotting.show_violins(ax, [position + offset], [np.array(values)], color, width=0.36)
                elif values:  # the input's norm has one gamma and one beta: a point for each seed
                    ax.plot([position + offset] * len(values), values, "o", color=plotting.COLORS[variant])
            ax.set_ylabel({"gamma": r"$\gamma$ (scale)", "beta": r"$\beta$ (shift)"}[key])
    for variant in ("bn", "bn_input"):
        axes[0, 0].plot([], [], "s", color=plotting.COLORS[variant], label=LABELS[variant])
    axes[0, 0].legend()
    axes[1, 0].set_xticks(range(len(layers)), [layer if layer == "input" else layer.upper() for layer in layers])
    plotting.label_panels(axes)
    return figure


def draw_causes(frame: pd.DataFrame, summary: dict) -> Figure:
    """Return question 3.1's figure: correlation between units, drift of the activations' inputs, variance shift."""
    figure, axes = plotting.subplots(1, 3, height=2.7)
    for row, variant in enumerate(VARIANTS):
        rows, color = chosen(frame, summary, variant), plotting.COLORS[variant]
        scores = [run["f6"] for run in rows.correlation]
        plotting.show_end(axes[0, 0], row, scores, summary["correlation"][variant]["f6"], color)
        if variant in ("none", "bn", "dropout"):
            curves = [run["c5"] for run in chosen(frame, summary, variant, COMMON_RATE).drift]
            plotting.show_seeds(axes[0, 1], curves, color, first=2)
        shift = summary["variance_shift"][variant]
        shown = [position for position, layer in enumerate(LAYERS) if layer in shift]
        if shown:
            plotting.show_interval(axes[0, 2], shown, [shift[LAYERS[i]] for i in shown], color, marker="o")
    for variant in VARIANTS:
        axes[0, 1].plot([], [], color=plotting.COLORS[variant], label=LABELS[variant])
    axes[0, 0].set(xlabel="mean |correlation|, F6", yticks=[])
    axes[0, 0].invert_yaxis()
    axes[0, 1].set(xlabel="epoch", ylabel="drift of C5: mean / deviation", yscale="log")
    axes[0, 2].set(ylabel="variance, test / training", xticks=range(len(LAYERS)))
    axes[0, 2].set_xticklabels([layer.upper() for layer in LAYERS])
    figure.legend(*axes[0, 1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    plotting.label_panels(axes)
    return figure


def draw_images(frame: pd.DataFrame, summary: dict) -> Figure:
    """Return the last figure: test error against the number of training images."""
    figure, axes = plotting.subplots(1, 1, height=2.6)
    ax, main = axes[0, 0], summary["protocol"]["images"]
    scores = {int(n): row["test_accuracy"] for n, row in summary["images"].items()} | {main: summary["test_accuracy"]}
    order = sorted(scores)
    for variant in VARIANTS:
        errors = [{key: 1 - scores[n][variant][key] for key in ("low", "mean", "high")} for n in order]
        plotting.show_interval(ax, order, errors, plotting.COLORS[variant], LABELS[variant], marker="o")
    ax.set(xlabel="training images", ylabel="test error", xscale="log", yscale="log")
    ax.set_xticks(order, [f"{n:,}" for n in order])
    ax.minorticks_off()
    ax.legend()
    return figure


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figures and write the summary."""
    options = parse_args(__doc__, argv)
    sweep = partial(
        run_all, STEM, partial(run, options=options), options=options, workers=options.workers(), gpu_share=GPU_SHARE
    )
    first = sweep(data.resolve(configs(options.preset), options))
    # The rest depends on the grid's result: each variant goes on with its own best rate.
    rest = sweep(data.resolve(tuned_configs(options.preset, best_rates(first)), options))
    frame = pd.concat([first, rest], ignore_index=True)
    summary = summarise(frame)
    figures = (("", draw), ("_violins", draw_violins), ("_causes", draw_causes), ("_images", draw_images))
    for suffix, drawn in figures:
        plotting.save(drawn(frame, summary), STEM + suffix, options, frame.dataset.iloc[0])
    write_summary(STEM, summary, options)


if __name__ == "__main__":
    main()
