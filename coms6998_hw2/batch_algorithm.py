"""Question 4.5's block diagram: how the batch size is determined automatically, in the manner of the post's Figure 1.

The steps are those of `p4_4_batch_size_range.py` (range test, gradients) and `noise_scale.py` (the rules).
"""

from itertools import pairwise

from matplotlib.figure import Figure

from utils import plotting

STEPS = [
    "set a smallest and a largest batch,\n64 and 8192, and a rate",
    "start training",
    "grow the batch exponentially\nafter each update",
    "record batch, loss and time;\nstop: where it falls behind\nthe smallest batch",
    "train again with the smallest batch;\nafter each epoch, gradients of 64\nand of 1,024 images",
    "average noise and signal separately;\nnoise scale = noise / signal",
    "b_min: noise scale after epoch 1\nb_max: noise scale after the last",
    "clip to [64, stop],\nround to powers of two",
    "train fully, the batch cycling\nbetween b_min and b_max",
]


def draw_algorithm() -> Figure:
    """Return the block diagram of the algorithm, in the manner of the reference post's Figure 1."""
    import schemdraw
    from schemdraw import flow

    figure, axes = plotting.subplots(1, 1, height=2.9)
    figure.set_layout_engine("none")
    axes[0, 0].set_position([0, 0, 1, 1])
    drawing, boxes = schemdraw.Drawing(fontsize=5.6, lw=0.8), []
    for number, text in enumerate(STEPS):
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
