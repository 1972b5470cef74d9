"""Problem 4.1: Fashion-MNIST summarized: its sizes, its classes, images per class, and representative images.

    python coms6998_hw2/p4_1_fashion_mnist.py                  about 5 s
    python coms6998_hw2/p4_1_fashion_mnist.py --preset quick   the same on fewer images

Writes report/results/p4_1_fashion_mnist/*.json and their summary, and figures/p4_1_fashion_mnist.png and .svg.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

from dataclasses import dataclass

import numpy as np
import pandas as pd

from utils import data, plotting
from utils.cli import DEFAULTS, Options, parse_args
from utils.records import write_summary
from utils.runs import sweep

STEM = "p4_1_fashion_mnist"
CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
SHOWN = [1, 7, 8]  # the three classes of which three images are shown: clearly different things


@dataclass(frozen=True)
class Preset:
    """What the presets differ in."""

    images: int


PRESETS = {"full": Preset(images=60_000), "quick": Preset(images=1000)}


def configs(preset: str) -> list[dict]:
    """Return the one run."""
    return [{"name": preset, "dataset": "fashion_mnist", "images": PRESETS[preset].images, "seed": 0}]


def run(config: dict, options: Options = DEFAULTS) -> dict:
    """Return sizes, images per class in each part, pixel statistics, duplicates, and which images to show."""
    images, labels = data.load(config["dataset"], options.data_dir, train=True, first=config["images"])
    test_images, test_labels = data.load(config["dataset"], options.data_dir, train=False, first=config["images"])
    training, validation = data.hold_out(labels)
    parts = {"training": labels[training], "validation": labels[validation], "test": test_labels}
    fitted = images[training] / 255
    of_class = [training[labels[training] == label] for label in range(len(CLASSES))]
    return {
        "shape": list(images.shape[1:]),
        "size": {part: len(of) for part, of in parts.items()},
        "per_class": {part: np.bincount(of, minlength=len(CLASSES)) for part, of in parts.items()},
        "mean": fitted.mean(),
        "deviation": fitted.std(),
        "zero_share": (fitted == 0).mean(),
        "class_mean": [(images[which] / 255).mean() for which in of_class],
        "duplicates": duplicates(images, test_images),
        "environment": {"precision": "float64", "device": "cpu"},
        "shown": [typical(images[which], 3) for which in of_class],
    }


def duplicates(images: np.ndarray, test_images: np.ndarray) -> dict:
    """Return how many training images equal an earlier one, and how many test images equal a training image."""
    seen = {image.tobytes() for image in images}
    return {
        "within_training": len(images) - len(seen),
        "test_in_training": sum(image.tobytes() in seen for image in test_images),
    }


def typical(images: np.ndarray, n: int) -> np.ndarray:
    """Return the n images (n, h, w), uint8, that are nearest to the mean of images (m, h, w)."""
    distance = ((images - images.mean(axis=0)) ** 2).sum(axis=(1, 2))
    return images[np.argsort(distance, kind="stable")[:n]]


def summarise(frame: pd.DataFrame) -> dict:
    """Return the run's numbers, without the images."""
    row = frame.iloc[0]
    classes = CLASSES if row.dataset == "fashion_mnist" else [str(digit) for digit in range(len(CLASSES))]
    keys = ("shape", "size", "per_class", "mean", "deviation", "zero_share", "class_mean", "duplicates")
    return {"protocol": {"dataset": row.dataset}, "classes": classes, **{key: row[key] for key in keys}}


def draw(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the figure: three typical images of three classes, and the most typical one of each class."""
    figure, axes = plotting.subplots(3, 8, height=2.3, width_ratios=[1] * 3 + [0.35] + [1] * 4)
    typical_images = np.array(frame.iloc[0].shown, dtype=np.uint8)  # (10, 3, h, w)
    for ax in axes.flat:
        ax.set_axis_off()
    for row, label in enumerate(SHOWN):
        for column in range(3):
            axes[row, column].imshow(typical_images[label, column], cmap="gray_r")
        axes[row, 1].set_title(summary["classes"][label], fontsize=7)
    rest = [*axes[0, 4:], *axes[1, 4:7], *axes[2, 4:7]]
    for label, ax in enumerate(rest):
        ax.imshow(typical_images[label, 0], cmap="gray_r")
        ax.set_title(summary["classes"][label], fontsize=7)
    return figure


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figure and write the summary."""
    options = parse_args(__doc__, argv)
    frame = sweep(STEM, run, configs(options.preset), options, workers=1)  # on the CPU
    summary = summarise(frame)
    plotting.save(draw(frame, summary), STEM, options, frame.dataset.iloc[0])
    write_summary(STEM, summary, options, frame)


if __name__ == "__main__":
    main()
