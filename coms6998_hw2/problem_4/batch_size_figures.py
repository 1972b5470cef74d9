"""The figures of questions 4.4 and 4.5: loss against batch size, what the algorithm measures, its block diagram.

frame: the runs of `p4_4_batch_size_range.py`; summary: what its `summarise` makes of them.
"""

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from coms6998_hw2.problem_4.automatic_batch_size import BEHIND, WINDOWS, windowed
from coms6998_hw2.problem_4.training_run import batch_sizes
from utils import plotting
from utils.records import floats, last


def draw(frame: pd.DataFrame, summary: dict, rate_summary: dict) -> plotting.Figure:
    """Return 4.4's figure: loss against rate, against batch size, against rate / batch, and against updates."""
    figure, axes = plotting.subplots(2, 2, height=3.4)
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
    by_size.plot(swept.batch_size, last(swept.batch_loss), ".", color=plotting.BLUE, alpha=0.5)
    rate_means = [loss["mean"] for loss in rate_losses]
    label = "a, mirrored: equal rate / batch"
    by_size.plot(learning_rate * batch / rates, rate_means, ".--", color=plotting.BLACK, label=label)
    by_size.set_xlim(sizes[0] / 1.3, sizes[-1] * 1.3)
    by_size.axvspan(summary["b_min"], summary["b_max"], color=plotting.GREEN, alpha=0.12, linewidth=0)
    by_size.set(xlabel=f"batch size, rate {plotting.LR_MIN}")
    by_size.set_xscale("log", base=2)
    by_size.legend(fontsize=6)

    by_ratio.plot(rates / batch, rate_means, ".-", color=plotting.BLACK, label="rate varied")
    size_means = [loss["mean"] for loss in size_losses]
    by_ratio.plot(learning_rate / sizes, size_means, ".-", color=plotting.BLUE, label="batch size varied")
    by_ratio.set(xlabel="rate / batch size", xscale="log")
    by_ratio.legend(fontsize=6)

    markers = "os^Dv<>p"
    for size, marker, shade in zip(sizes[:-1], markers, np.linspace(0, 0.85, len(sizes) - 1), strict=False):
        levels = [level for level in summary["equal_updates"] if str(size) in level["loss"]]
        updates = [level["updates"] for level in levels]
        losses = [level["loss"][str(size)]["mean"] for level in levels]
        style = {
            "color": plt.get_cmap("viridis")(shade),
            "linewidth": 0.6,
            "markersize": 3.5,
            "markerfacecolor": "none",
        }
        equal.plot(updates, losses, f"{marker}-", label=f"{size:,}", **style)
    equal.set(xlabel=f"updates made, rate {plotting.LR_MIN}", xscale="log")
    equal.legend(fontsize=6, ncols=2, title="batch size", title_fontsize=6)
    for ax in axes.flat:
        ax.set(ylabel="training loss", ylim=(0, 3.6))  # one scale, to compare the curves; the largest loss is 3.5
    plotting.label_panels(axes)
    return figure


def draw_noise(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return question 4.5's figure: the growing-batch test beside the smallest batch, and the noise scale."""
    figure, axes = plotting.subplots(1, 2, height=2.3)
    left, right = axes[0]
    smallest, largest = summary["candidates"][0]["batch_size"], summary["protocol"]["largest"]
    constant = frame[(frame.part == "candidate") & (frame.batch_size == smallest)].set_index("seed")
    tests = frame[frame.part == "range"].set_index("seed")
    samples = int(np.sum(tests.sizes.iloc[0]))  # that every run sees
    ends = np.linspace(0, samples, WINDOWS + 1)
    middles = (ends[:-1] + ends[1:]) / 2 / 1000
    for seed, test in tests.iterrows():
        equal = np.tile(batch_sizes(samples // test.epochs, smallest), test.epochs)
        means = windowed(equal, floats(constant.update_losses[seed]), ends)
        growing = windowed(test.sizes, floats(test.losses), ends)
        style = {"linewidth": 0.8, "markersize": 2}
        left.plot(middles, means, ".-", color=plotting.BLACK, label=f"batch {smallest}", **style)
        left.plot(middles, growing, ".-", color=plotting.BLUE, label="growing batch", **style)
    first = tests.iloc[0]
    behind = np.argmax(np.array(first.asked) >= round(summary["range_stop"]["mean"]))  # the first update of that size
    left.axvline(np.sum(first.sizes[:behind]) / 1000, color=plotting.GREEN, linestyle="--")
    left.set(xlabel="thousands of images seen", ylabel="training loss")
    handles, labels = left.get_legend_handles_labels()
    left.legend(handles[:2], labels[:2])  # the same for every seed
    doublings = np.log2(largest / smallest) / (samples / 1000)  # for every thousand images

    def size_at(thousands):
        return smallest * 2 ** (doublings * thousands)

    def thousands_at(size):
        return np.log2(np.maximum(size, 1) / smallest) / doublings

    size = left.secondary_xaxis("top", functions=(size_at, thousands_at))
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

    figure, axes = plotting.subplots(1, 1, height=3.7)
    figure.set_layout_engine("none")
    axes[0, 0].set_position([0, 0, 1, 1])
    drawing = schemdraw.Drawing(fontsize=7.5, lw=0.8)

    def box(text, x, y, shape=flow.Box, width=7.8, height=1.6):
        return drawing.add(shape(w=width, h=height).at((x, y)).anchor("center").label(text))

    def line(*points):
        for start, end in pairwise(points):
            drawing.add(flow.Line().at(start).to(end))

    def arrow(start, end):
        drawing.add(flow.Arrow().at(start).to(end))

    left, right, middle = 0, 9.8, 4.9
    given = box(f"given: batches {smallest} to {largest},\na learning rate", left, 0, flow.RoundBox)
    grow = box(f"train; the batch grows exponentially,\n{smallest} to {largest}, with the images seen", left, -2.6)
    cut = box(f"cut both runs into {WINDOWS} equal parts of\nthe images seen; begin with the last", left, -5.2)
    question = f"mean loss of the growing\nbatch behind by more than {BEHIND:.0%}\nof the other's fall?"
    behind = box(question, left, -9.3, flow.Decision, width=9.2, height=4.6)
    low = box(r"$b_\mathrm{min}$: the last power of two" + "\nbefore the parts in which it is behind", left, -13.4)
    again = box(f"train with batch {smallest}; each epoch,\ngradients of {smallest} and of {big:,} images", right, -2.6)
    average = box("average their noise and their signal;\nnoise scale = noise / signal", right, -6.2)
    high = box(r"$b_\mathrm{max}$: the power of two nearest to" + "\nthe noise scale after the last epoch", right, -9.8)
    cycle = f"clip to {smallest} to {largest};\n" + r"let the batch cycle from $b_\mathrm{min}$ to $b_\mathrm{max}$"
    end = box(cycle, right, -13.4, flow.RoundBox)
    for above, below in pairwise((given, grow, cut, behind, low)):
        arrow(above.S, below.N)
    line(given.E, (right, 0))
    arrow((right, 0), again.N)
    line(again.W, (middle, again.W[1]), (middle, cut.E[1]))  # the run that the growing one is compared with
    arrow((middle, cut.E[1]), cut.E)
    for above, below in pairwise((again, average, high, end)):
        arrow(above.S, below.N)
    arrow(low.E, end.W)
    beside, again_from = left - 5.4, (cut.S[1] + behind.N[1]) / 2  # of the way back from the decision to its own entry
    drawing.add(flow.Line().at(behind.W).to((beside, behind.W[1])).label("yes", loc="top"))
    drawing.add(flow.Line().at((beside, behind.W[1])).to((beside, again_from)).label("one part earlier", rotate=True))
    arrow((beside, again_from), (left, again_from))
    drawing.add(flow.Line().at(behind.S).to(behind.S).label("no, or no part is left", loc="bottom", ofst=(2.2, -0.1)))
    drawing.draw(canvas=axes[0, 0], show=False)
    axes[0, 0].set_axis_off()
    return figure
