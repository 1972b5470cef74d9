"""The figures of questions 4.4 and 4.5: loss against batch size, what the algorithm measures, its block diagram.

frame: the runs of `p4_4_batch_size_range.py`; summary: what its `summarise` makes of them.
"""

import numpy as np
import pandas as pd

from coms6998_hw2.problem_4.automatic_batch_size import WINDOWS, windowed
from utils import plotting


def draw(frame: pd.DataFrame, summary: dict, rate_summary: dict) -> plotting.Figure:
    """Return 4.4's figure: loss against rate, against batch size, against rate / batch, and at equal updates."""
    figure, axes = plotting.subplots(2, 2, height=3.9)
    by_rate, by_size, by_ratio, equal = axes.flat
    learning_rate, batch = summary["protocol"]["lr_min"], rate_summary["protocol"]["batch_size"]
    reached = [row for row in rate_summary["candidates"] if row["loss"]["n"] > 0]
    rates = np.array([row["rate"] for row in reached])
    rate_losses = [row["loss"] for row in reached]
    sizes = np.array([row["batch_size"] for row in summary["candidates"]])
    size_losses = [row["loss"] for row in summary["candidates"]]
    swept = frame[frame.part == "candidate"]

    plotting.show_interval(by_rate, rates, rate_losses, plotting.BLACK, marker=".")
    by_rate.axvline(learning_rate, color=plotting.GREEN, linestyle="--", label=plotting.LR_MIN)
    by_rate.set(xlabel=f"learning rate, batch size {batch}", xscale="log")
    by_rate.legend(fontsize=6)

    plotting.show_interval(by_size, sizes, size_losses, plotting.BLUE, "measured", marker=".")
    by_size.plot(swept.batch_size, [losses[-1] for losses in swept.batch_loss], ".", color=plotting.BLUE, alpha=0.5)
    expected = [row["loss_at_rate"] for row in summary["mirrored"]]
    by_size.plot(sizes, np.array(expected, float), "--", color=plotting.BLACK, label="a, mirrored: equal rate / batch")
    by_size.axvspan(summary["b_min"], summary["b_max"], color=plotting.GREEN, alpha=0.12, linewidth=0)
    by_size.set(xlabel=f"batch size, rate {plotting.LR_MIN}")
    by_size.set_xscale("log", base=2)
    by_size.legend(fontsize=6)

    by_ratio.plot(
        rates / batch, [loss["mean"] for loss in rate_losses], ".-", color=plotting.BLACK, label="rate varied"
    )
    size_means = [loss["mean"] for loss in size_losses]
    by_ratio.plot(learning_rate / sizes, size_means, ".-", color=plotting.BLUE, label="batch size varied")
    by_ratio.set(xlabel="rate / batch size", xscale="log")
    by_ratio.legend(fontsize=6)

    for level, marker in zip(summary["equal_updates"], "os", strict=True):
        made = [int(size) for size in level["loss"]]
        label = f"after {level['updates']} updates"
        losses = list(level["loss"].values())
        plotting.show_interval(equal, made, losses, plotting.BLUE, label, marker=marker, markersize=3)
    equal.set(xlabel=f"batch size, rate {plotting.LR_MIN}")
    equal.set_xscale("log", base=2)
    equal.legend(fontsize=6)
    for ax in axes.flat:
        ax.set(ylabel="training loss", ylim=(0, 3.6))  # one scale, so that the curves can be compared
    plotting.label_panels(axes)
    return figure


def draw_noise(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return question 4.5's figure: the growing-batch test beside the smallest batch, and the noise scale."""
    figure, axes = plotting.subplots(1, 2, height=2.5)
    left, right = axes[0]
    smallest, largest = summary["candidates"][0]["batch_size"], summary["protocol"]["largest"]
    constant = frame[(frame.part == "candidate") & (frame.batch_size == smallest)].set_index("seed")
    tests = frame[frame.part == "range"]
    for number, (_, test) in enumerate(tests.iterrows()):
        seen, losses = np.cumsum(test.sizes), np.array(constant.update_losses[test.seed], float)
        equal = np.full(len(losses), seen[-1] / len(losses))
        ends = np.linspace(0, seen[-1], WINDOWS + 1)
        middles = (ends[:-1] + ends[1:]) / 2000
        for sizes, values, color, label in (
            (equal, losses, plotting.BLACK, f"batch {smallest}"),
            (test.sizes, np.array(test.losses, float), plotting.BLUE, "growing batch"),
        ):
            means = windowed(sizes, values, ends)
            first = label if number == 0 else None
            left.plot(middles, means, ".-", color=color, linewidth=0.8, markersize=2, label=first)
    behind = np.argmax(np.array(test.asked) >= round(summary["range_stop"]["mean"]))  # the first update of that size
    left.axvline(seen[behind] / 1000, color=plotting.GREEN, linestyle="--")
    left.set(xlabel="thousands of images seen", ylabel="training loss")
    left.legend()
    doublings = np.log2(largest / smallest) / (seen[-1] / 1000)  # for every thousand images
    size = left.secondary_xaxis(
        "top",
        functions=(
            lambda x: smallest * 2 ** (doublings * x),
            lambda b: np.log2(np.maximum(b, 1) / smallest) / doublings,
        ),
    )
    size.set_xticks([smallest * 8**k for k in range(5) if smallest * 8**k <= largest])
    size.set_xlabel("growing batch size")
    scale = summary["noise_scale"]
    plotting.show_interval(right, range(len(scale)), scale, plotting.BLUE, marker="o")
    right.axhline(summary["automatic"]["b_max"], color=plotting.GREEN, linestyle="--")
    right.set(xlabel="epoch", ylabel="gradient noise scale (images)", yscale="log")
    plotting.in_ones_twos_and_fives(right.yaxis)
    plotting.label_panels(axes)
    return figure


def draw_algorithm(smallest: int, largest: int, big: int) -> plotting.Figure:
    """Return the block diagram of the algorithm, in the manner of the reference post's Figure 1.

    smallest, largest: the batches of the growing-batch test; smallest and `big`: those of the noise scale's gradients.
    """
    import schemdraw
    from schemdraw import flow

    figure, axes = plotting.subplots(1, 1, height=3.9)
    figure.set_layout_engine("none")
    axes[0, 0].set_position([0, 0, 1, 1])
    drawing = schemdraw.Drawing(fontsize=8, lw=0.8)

    def box(text, x, y, shape=flow.Box, width=7.4, height=1.6):
        return drawing.add(shape(w=width, h=height).at((x, y)).anchor("center").label(text))

    def arrow(start, end):
        drawing.add(flow.Arrow().at(start).to(end))

    left, right = 0, 9.4
    given = box(f"given: batches {smallest} to {largest},\na learning rate", left, 0, flow.RoundBox)
    grow = box("train; grow the batch exponentially\nwith the images seen", left, -2.6)
    compare = box(f"compare its loss with that of batch\n{smallest} after equally many images", left, -5.2)
    behind = box("behind it\nfrom here on?", left, -8.4, flow.Decision, width=4.6, height=2.6)
    low = box(r"$b_\mathrm{min}$: the last power of two" + "\nbefore it fell behind", left, -11.6)
    again = box(f"train with batch {smallest}; each epoch,\ngradients of {smallest} and of {big} images", right, -2.6)
    average = box("average their noise and their signal;\nnoise scale = noise / signal", right, -5.2)
    high = box(r"$b_\mathrm{max}$: the power of two nearest to" + "\nthe noise scale after the last epoch", right, -8.4)
    cycle = box(
        f"clip to {smallest} to {largest};\n" + r"let the batch cycle from $b_\mathrm{min}$ to $b_\mathrm{max}$",
        right,
        -11.6,
        flow.RoundBox,
    )
    arrow(given.S, grow.N)
    arrow(grow.S, compare.N)
    arrow(compare.S, behind.N)
    arrow(behind.S, low.N)
    drawing.add(flow.Line().at(given.E).to((right, 0)))
    arrow((right, 0), again.N)
    arrow(again.S, average.N)
    arrow(average.S, high.N)
    arrow(high.S, cycle.N)
    arrow(low.E, cycle.W)
    beside = (left - 4.6, behind.W[1])  # of the way back from the decision
    drawing.add(flow.Line().at(behind.W).to(beside).label("no", loc="top"))
    drawing.add(flow.Line().at(beside).to((left - 4.6, grow.W[1])))
    arrow((left - 4.6, grow.W[1]), grow.W)
    drawing.add(flow.Line().at(behind.S).to(behind.S).label("yes", loc="bottom", ofst=(0.5, -0.1)))
    drawing.draw(canvas=axes[0, 0], show=False)
    axes[0, 0].set_axis_off()
    return figure
