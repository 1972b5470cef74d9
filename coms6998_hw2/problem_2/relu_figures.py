"""The figures of questions 2.2 and 2.3: the collapse, the map of networks born dead, and where the constant ones sit.

figure = draw(frame, summary)      frame: p2_2_dying_relu's runs; summary: what its `summarise` makes of them
"""

import numpy as np
import pandas as pd
import torch

from coms6998_hw2.problem_2.relu_ensemble import HALF_INTERVAL, TARGETS
from utils import plotting

LABELS = {"relu": "ReLU", "leaky": "leaky ReLU (0.01)"}


def draw(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the main figure: collapse against epochs and threshold, born dead against depth, examples of each kind."""
    figure, ((epochs, threshold), (depth, fits)) = plotting.subplots(2, 2, height=5.0)
    for name, label in LABELS.items():
        numbers, color = summary[name], plotting.COLORS[name]
        for key, style in (("collapsed", "-"), ("constant", ":")):
            shown = {int(epoch): value[key] for epoch, value in numbers["epochs"].items() if epoch != "0"}
            low, mean, high = (
                np.array([value[bound] for value in shown.values()]) for bound in ("low", "fraction", "high")
            )
            epochs.plot(list(shown), mean, color=color, linestyle=style, marker="o")
            epochs.fill_between(list(shown), low, high, color=color, alpha=0.2, linewidth=0)
        epochs.plot([], [], color=color, marker="o", label=label)
        threshold.plot(summary["protocol"]["thresholds"], numbers["below"], color=color, label=label)
    epochs.plot([], [], "-", color="0.4", label="$R^2 < 0.01$")
    epochs.plot([], [], ":", color="0.4", label="exactly constant")
    epochs.axhline(0.9, color=plotting.BLACK, linewidth=0.6, linestyle="--")
    epochs.set(xlabel="epoch", ylabel="fraction of networks", xscale="log", ylim=(0, 1.02))
    epochs.set_xticks(list(shown), list(shown), minor=False)
    epochs.minorticks_off()
    epochs.legend(loc="lower left")
    threshold.set(
        xlabel="threshold on the output's relative range", ylabel="fraction below", xscale="log", ylim=(0, 1.02)
    )
    threshold.legend(loc="center left")
    _, layers = simulated(summary)
    for width, color in ((2, plotting.BLUE), (3, plotting.VERMILION), (5, plotting.GREEN), (10, plotting.PURPLE)):
        low, high = np.array([summary["bounds"][f"{width}x{hidden}"] for hidden in layers]).T
        depth.fill_between(layers, low, high, color=color, alpha=0.25, linewidth=0)
        depth.plot(layers, [summary["born_dead"][f"{width}x{hidden}"]["fraction"] for hidden in layers], color=color,
                   label=f"width {width}")  # fmt: skip
    depth.set(xlabel="hidden layers", ylabel="probability to be born dead", ylim=(0, 1.02))
    depth.legend()
    grid = np.linspace(-HALF_INTERVAL, HALF_INTERVAL, 101)
    fits.plot(grid, np.abs(grid), color=plotting.BLACK, linewidth=3, alpha=0.25, label="target $|x|$")
    shown = frame[(frame.variation == "none") & (frame.slope == 0)].iloc[0].examples
    for kind, color in (("collapsed", plotting.BLUE), ("half", plotting.ORANGE), ("alive", plotting.GREEN)):
        if kind in shown:
            fits.plot(grid, shown[kind], color=color, label={"half": "half-collapsed"}.get(kind, kind), linewidth=1)
    fits.set(xlabel="$x$", ylabel="output")
    fits.legend(loc="upper center")
    plotting.label_panels(np.array([epochs, threshold, depth, fits]))
    return figure


def draw_map(summary: dict) -> plotting.Figure:
    """Return the map of the born-dead probability over width and depth, with the 1% and 10% contours."""
    figure, axes = plotting.subplots(height=2.3, width=plotting.NARROW)
    widths, layers = simulated(summary)
    fraction = np.array([[summary["born_dead"][f"{w}x{hidden}"]["fraction"] for w in widths] for hidden in layers])
    mesh = axes[0, 0].pcolormesh(widths, layers, fraction, cmap="cividis", vmin=0, vmax=1, rasterized=True)
    lines = axes[0, 0].contour(widths, layers, fraction, levels=[0.01, 0.1, 0.5, 0.9], colors="white", linewidths=1)
    axes[0, 0].clabel(lines, fmt=lambda level: f"{level:.0%}", fontsize=7)
    axes[0, 0].set(xlabel="width", ylabel="hidden layers", xticks=widths)
    axes[0, 0].grid(False)
    figure.colorbar(mesh, label="probability to be born dead")
    return figure


def draw_values(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return where the constant networks sit on three targets or losses, and the collapse against the leak's slope."""
    figure, axes = plotting.subplots(1, 4, height=2.2)
    shown = {"none": "$|x|$, MSE", "x_sin_5x": "$x\\,\\sin 5x$, MSE", "x_sin_5x mae": "$x\\,\\sin 5x$, MAE"}
    x = torch.linspace(-HALF_INTERVAL, HALF_INTERVAL, 100_001, dtype=torch.float64)
    for ax, (variation, title) in zip(axes[0], shown.items(), strict=False):
        row = frame[(frame.variation == variation) & (frame.slope == 0)].iloc[0]
        constant = floats(row.range) == 0
        y = TARGETS[row.target](x).numpy()  # whose mean does not depend on torch's number of threads
        ends = sorted([float(y.mean()) - 0.25, float(y.mean()) + 0.25])
        ax.hist(np.clip(floats(row.value)[constant], *ends), bins=40, range=ends, color=plotting.BLUE)
        ax.axvline(y.mean(), color=plotting.VERMILION, linewidth=0.8, label="mean")
        ax.axvline(np.median(y), color=plotting.BLACK, linewidth=0.8, linestyle="--", label="median")
        ax.set(title=title, xlabel="output", yscale="log")
    axes[0, 0].set_ylabel("constant networks")
    figure.legend(*axes[0, 1].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    slopes = {0.0: summary["relu"], summary["protocol"]["slope"]: summary["leaky"]} | {
        float(name.removeprefix("slope ")): value for name, value in summary["variations"].items() if "slope " in name
    }
    ax = axes[0, 3]
    for key, color in (("collapsed", plotting.VERMILION), ("fitted", plotting.GREEN)):
        ax.plot(
            sorted(slopes), [slopes[s][key]["fraction"] for s in sorted(slopes)], marker="o", color=color, label=key
        )
    ax.set(xlabel="slope", ylabel="fraction", ylim=(0, 1.02))
    ax.set_xscale("symlog", linthresh=1e-3)
    ax.set_xticks([0, 1e-3, 1e-2, 1e-1], ["0", ".001", ".01", ".1"])
    ax.minorticks_off()
    ax.set_xlim(-2e-4, 0.5)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower right", ncols=2)
    plotting.label_panels(axes)
    for ax, title in zip(axes[0], shown.values(), strict=False):
        ax.set_title(title)
    return figure


def simulated(summary: dict) -> tuple[list[int], list[int]]:
    """Return the widths and the numbers of hidden layers of the networks counted as born dead."""
    sizes = [[int(number) for number in key.split("x")] for key in summary["born_dead"]]
    widths, layers = (sorted(set(numbers)) for numbers in zip(*sizes, strict=True))
    return widths, layers


def floats(values: list) -> np.ndarray:
    """Return a record's numbers as an array; a diverged network's null is NaN."""
    return np.array(values, dtype=float)
