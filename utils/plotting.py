"""How every figure looks and where it is saved: `figure, axes = subplots(1, 2)`, then `save(figure, stem, options)`."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter, StrMethodFormatter
from numpy.typing import ArrayLike

from utils.cli import Options
from utils.files import say, short_path, write_whole

STYLE = Path(__file__).with_name("report.mplstyle")
WIDTH = 5.5  # inches: the report's column
NARROW = 0.8 * WIDTH  # for single panels, which the report prints at 80% of the column

# Okabe and Ito's color-blind-safe palette; a variant has one color in every figure.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"
LR_MIN, LR_MAX = r"$lr_\mathrm{min}$", r"$lr_\mathrm{max}$"  # in labels


def subplots(
    rows: int = 1, columns: int = 1, height: float = 3.0, width: float = WIDTH, **keywords: Any
) -> tuple[Figure, np.ndarray]:
    """Return a figure of `width` (default: the report's column) by `height` inches, and its axes (rows, columns)."""
    figure, axes = _in_style().subplots(rows, columns, figsize=(width, height), squeeze=False, **keywords)
    return figure, axes


def mosaic(layout: str, height: float = 3.0, **keywords: Any) -> tuple[Figure, np.ndarray]:
    """Return a figure of the report's column and its axes (n,), laid out as letters: "aab;ccd" is two rows."""
    figure, named = _in_style().subplot_mosaic(layout, figsize=(WIDTH, height), **keywords)
    return figure, np.array([named[name] for name in sorted(named)])


def _in_style():
    """Return pyplot, in the project's style."""
    import matplotlib.pyplot as plt

    mpl.rcdefaults()
    plt.style.use(STYLE)
    return plt


def label_panels(axes: np.ndarray) -> None:
    """Write a, b, c, ... at the upper left of the axes."""
    for letter, ax in zip("abcdefghijklmnopqrstuvwxyz", axes.flat, strict=False):
        ax.set_title(letter, loc="left", fontweight="bold")


def in_percent(axis: Axis, decimals: int | None = None) -> None:
    """Label an axis of fractions in percent, as the report's text and tables give them."""
    axis.set_major_formatter(PercentFormatter(1, decimals))


def in_powers_of_ten(axis: Axis) -> None:
    """Label an axis of decimal logarithms with the powers of ten that they stand for."""
    axis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axis.set_major_formatter(StrMethodFormatter("$10^{{{x:.0f}}}$"))


def in_ones_twos_and_fives(axis: Axis) -> None:
    """Label a logarithmic axis of about a decade with plain numbers: 0.1, 0.2, 0.5, 1, ..."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def bounds(intervals: Iterable[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the lower ends, the means or shares, and the upper ends of intervals, an array (n,) each."""
    rows = [(row["low"], row["mean"] if "mean" in row else row["fraction"], row["high"]) for row in intervals]
    low, mean, high = np.array(rows, float).reshape(-1, 3).T
    return low, mean, high


def show_interval(
    ax: Axes, x: ArrayLike, intervals: list[dict], color: str, label: str | None = None, **keywords: Any
) -> None:
    """Draw a line through the intervals' means over x, and a band from low to high."""
    low, mean, high = bounds(intervals)
    ax.plot(x, mean, color=color, label=label, **keywords)
    ax.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)


def show_seeds(
    ax: Axes, curves: Collection, color: str, first: int = 0, style: str = ".-", label: str | None = None
) -> None:
    """Draw every seed's curve, thin, and their mean; `curves` (seeds, epochs), its first column epoch `first`.

    `style`: a marker, for the mean only, and a line. A curve that ends early (a diverged run) is drawn as far as it
    goes, and so is the mean of all.
    """
    length = max(len(curve) for curve in curves)
    filled = np.full((len(curves), length), np.nan)
    for row, curve in zip(filled, curves, strict=True):
        row[: len(curve)] = curve
    epochs = np.arange(first, first + length)
    ax.plot(epochs, filled.T, style.lstrip(".os^Dvx"), color=color, linewidth=0.4, alpha=0.6)
    ax.plot(epochs, filled.mean(axis=0), style, color=color, label=label, markersize=3)


def show_end(ax: Axes, row: float, scores: Sequence[float], interval: dict, color: str) -> None:
    """Draw the mean and interval as a tick and a bar on a row, and the seeds' scores as points beside the bar."""
    ax.plot(scores, [row + 0.25] * len(scores), ".", color=color, alpha=0.6, markersize=3)
    ax.plot([interval["low"], interval["high"]], [row, row], color=color)
    ax.plot(interval["mean"], row, "|", color=color, markersize=9)


def show_violins(ax: Axes, positions: Sequence, values: list, color: str, width: float = 0.8) -> None:
    """Draw a violin, from its least to its greatest value, for each array of values; a constant one is a line."""
    constant = [np.ptp(array) == 0 for array in values]
    # The kernel density of a constant does not exist; two values a hair apart stand for it.
    spread = [
        array + np.linspace(0, 1e-9, len(array)) if flat else array
        for array, flat in zip(values, constant, strict=True)
    ]
    parts = ax.violinplot(spread, positions, widths=width, showextrema=False)
    for body in parts["bodies"]:  # type: ignore[attr-defined]
        body.set(facecolor=color, edgecolor=BLACK, linewidth=0.4, alpha=0.9)
    for position, array, flat in zip(positions, values, constant, strict=True):
        if flat:
            ax.plot([position - width / 2, position + width / 2], [array[0]] * 2, color=color, linewidth=1)


def save(figure: Figure, name: str, options: Options, dataset: str | None = None) -> Path:
    """Save <figures>/<name>.png and .svg and return the PNG's path; the title names a stand-in data set."""
    import matplotlib.pyplot as plt

    if dataset == "digits":
        figure.suptitle("digits (stand-in data set)", fontsize=8, color=VERMILION)
    path = options.figures_dir / f"{name}.png"
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()  # lays the axes out
        figure.set_layout_engine("none")
    for ax in figure.axes:
        # The last bits of what the layout's solver finds vary from process to process and from CPU to CPU, and with
        # them some pixels and an SVG's names.
        ax.set_position(np.round(ax.get_position(original=True).bounds, 6))
    write_whole(path, lambda file: figure.savefig(file, format="png", metadata={"Software": None}))
    vector = path.with_suffix(".svg")
    write_whole(vector, lambda file: figure.savefig(file, format="svg", metadata={"Date": None}))
    plt.close(figure)
    say(f"{name}: figure in {short_path(path)}")
    return path
