"""The figures of questions 4.4 and 4.5: loss against batch size, what the algorithm measures, its block diagram.

The algorithm's steps are those of `p4_4_batch_size_range.py` (range test, gradients) and `noise_scale.py` (the rules).
"""

from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from coms6998_hw2.noise_scale import WINDOWS, windowed
from utils import plotting
from utils.intervals import with_nan

STEPS = r"""set a smallest and a largest batch,
{smallest} and {largest}, and a rate

start training

grow the batch exponentially
with the images seen

record batch and loss;
find where it falls behind
the smallest batch

train again with the smallest batch;
after each epoch, gradients of {smallest}
and of {big} images

average noise and signal separately;
noise scale = noise / signal

$b_{{\rm min}}$: last before it falls behind
$b_{{\rm max}}$: noise scale after the last,
which $b_{{\rm min}}$ does not exceed

clip to [{smallest}, {largest}],
round to powers of two

train fully, the batch cycling
between $b_{{\rm min}}$ and $b_{{\rm max}}$"""


def draw(frame: pd.DataFrame, summary: dict, rate_summary: dict) -> Figure:
    """Return 4.4's figure: loss against rate, against batch size, at equal updates, and against rate / batch."""
    figure, axes = plotting.subplots(2, 2, height=4.6)
    by_rate, by_size, equal, noise = axes.flat
    level = summary["equal_updates"][-1]
    shown = [row for row in rate_summary["candidates"] if row["loss"]["n"] > 0]
    rates, batch = [row["rate"] for row in shown], rate_summary["protocol"]["batch_size"]
    plotting.show_interval(by_rate, rates, [with_nan(row["loss"]) for row in shown], plotting.BLACK, marker=".")
    by_rate.set(xlabel=f"learning rate, batch size {batch}", ylabel="training loss", xscale="log")
    noise.plot([rate / batch for rate in rates], [row["loss"]["mean"] for row in shown], "k.-", label="rate varied")
    for part, color, label in (
        ("lr_min", plotting.BLUE, plotting.LR_MIN),
        ("middle", plotting.VERMILION, "middle rate"),
    ):
        rows, listed = frame[frame.part == part], summary["candidates"][part]
        sizes, rate = [row["batch_size"] for row in listed], summary["protocol"][part]
        plotting.show_interval(
            by_size, sizes, [row["loss"] for row in listed], color, f"{label}, {plotting.in_powers(rate)}", marker="."
        )
        by_size.plot(rows.batch_size, [losses[-1] for losses in rows.batch_loss], ".", color=color, alpha=0.5)
        reached = [size for size in sizes if str(size) in level[part]]
        plotting.show_interval(equal, reached, [level[part][str(size)] for size in reached], color, marker=".")
        noise.plot([rate / size for size in sizes], [row["loss"]["mean"] for row in listed], ".-", color=color,
                   label=f"batch varied, {label}")  # fmt: skip
    by_size.axvspan(summary["b_min"], summary["b_max"], color=plotting.GREEN, alpha=0.12, linewidth=0)
    by_size.set(xlabel="batch size, equal epochs", ylabel="training loss")
    equal.set(xlabel=f"batch size, after {level['updates']} updates", ylabel="training loss")
    noise.set(xlabel="rate / batch size", ylabel="training loss", xscale="log")
    for ax in axes.flat:
        ax.set_ylim(0, 3.5)  # one scale, so that the curves can be compared
    for ax in (by_size, equal):
        ax.set_xscale("log", base=2)
    by_size.legend(fontsize=6)
    noise.legend(fontsize=6)
    plotting.label_panels(axes)
    return figure


def draw_noise(frame: pd.DataFrame, summary: dict) -> Figure:
    """Return question 4.5's figure: the noise scale over training, and the range test beside the smallest batch."""
    figure, axes = plotting.subplots(1, 2, height=2.5)
    left, right = axes[0]
    scale = summary["noise_scale"]
    plotting.show_interval(left, range(len(scale)), scale, plotting.BLUE, marker="o")
    left.set(xlabel="epoch", ylabel="gradient noise scale (images)", yscale="log")
    smallest, largest = summary["candidates"]["middle"][0]["batch_size"], summary["protocol"]["largest"]
    constant = frame[(frame.part == "middle") & (frame.batch_size == smallest)].set_index("seed")
    tests = frame[frame.part == "range"]
    for number, (_, test) in enumerate(tests.iterrows()):
        seen, losses = np.cumsum(test.sizes), np.array(constant.update_losses[test.seed], float)
        equal = np.full(len(losses), seen[-1] / len(losses))
        ends = np.linspace(0, seen[-1], WINDOWS + 1)
        for sizes, values, color, label in (
            (equal, losses, plotting.BLACK, f"batch {smallest}"),
            (test.sizes, np.array(test.losses, float), plotting.BLUE, "growing batch"),
        ):
            means = windowed(sizes, values, ends)
            right.plot((ends[:-1] + ends[1:]) / 2000, means, ".-", color=color, linewidth=0.8, markersize=2,
                       label=None if number else label)  # fmt: skip
    behind = np.argmax(np.array(test.asked) >= round(summary["range_stop"]["mean"]))  # the first update of that size
    right.axvline(seen[behind] / 1000, color=plotting.GREEN, linestyle="--")
    right.set(xlabel="thousands of images seen", ylabel="training loss")
    right.legend()
    doublings = np.log2(largest / smallest) / (seen[-1] / 1000)  # for every thousand images
    size = right.secondary_xaxis(
        "top",
        functions=(
            lambda x: smallest * 2 ** (doublings * x),
            lambda b: np.log2(np.maximum(b, 1) / smallest) / doublings,
        ),
    )
    size.set_xticks([smallest * 8**k for k in range(5) if smallest * 8**k <= largest])
    size.set_xlabel("growing batch size")
    plotting.label_panels(axes)
    return figure


def draw_algorithm(smallest: int, largest: int, big: int) -> Figure:
    """Return the block diagram of the algorithm, in the manner of the reference post's Figure 1.

    smallest, largest: the batches of the range test; smallest and `big`: those of the noise scale's gradients.
    """
    import schemdraw
    from schemdraw import flow

    figure, axes = plotting.subplots(1, 1, height=2.9)
    figure.set_layout_engine("none")
    axes[0, 0].set_position([0, 0, 1, 1])
    drawing, boxes = schemdraw.Drawing(fontsize=5.6, lw=0.8), []
    for number, text in enumerate(STEPS.format(smallest=smallest, largest=largest, big=big).split("\n\n")):
        row, column = divmod(number, 3)
        column = column if row % 2 == 0 else 2 - column  # to and fro
        box = flow.RoundBox(w=6.6, h=2.0).at((column * 7.4, -row * 2.9)).anchor("center").label(text)
        boxes.append(drawing.add(box))
    for number, (a, b) in enumerate(pairwise(boxes)):
        row, column = divmod(number, 3)
        start, end = ("S", "N") if column == 2 else ("E", "W") if row % 2 == 0 else ("W", "E")
        drawing.add(flow.Arrow().at(getattr(a, start)).to(getattr(b, end)))
    drawing.draw(canvas=axes[0, 0], show=False)
    axes[0, 0].set_axis_off()
    return figure
