"""Problem 1: the perceptron criterion against the hinge loss on 20 points of the unit square.

The points with x1 > x2 are positive. A weight vector w predicts sign(w . x) and is trained by stochastic subgradient
descent on max(0, a - y (w . x)): a = 0 is the perceptron criterion (1.1), a = 1 the hinge loss (1.2). Which is more
accurate on 1,000 test points, and why (1.3)? For which do the test predictions depend less on the training set (1.4)?

    python coms6998_hw2/p1_perceptron.py                  the full protocol, about a minute on two CPU cores
    python coms6998_hw2/p1_perceptron.py --preset quick   fewer training sets, a few seconds

Writes report/results/p1_perceptron/*.json, report/results/p1_perceptron.json and figures/p1_perceptron.png and .svg.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.svm import SVC

from utils import machine, plotting
from utils.cli import DEFAULTS, Options, parse_args
from utils.intervals import mean_interval
from utils.records import write_summary
from utils.runs import sweep

STEM = "p1_perceptron"
CRITERIA = {"perceptron": 0.0, "hinge": 1.0}  # the loss's a
TRAIN_SIZE, TEST_SIZE = 20, 1000  # the assignment's
LEARNING_RATE = 1.0  # from w = 0 the perceptron's predictions do not depend on it; the hinge's do (varied below)
SEED = 0  # the test points' and, with an offset, every training set's


@dataclass(frozen=True)
class Preset:
    """What the presets differ in."""

    training_sets: int
    passes: int
    sizes: list[int]


PRESETS = {
    "full": Preset(training_sets=1000, passes=1000, sizes=[5, 10, 20, 50, 100, 200, 500, 1000]),
    "quick": Preset(training_sets=200, passes=1000, sizes=[5, 20, 100]),
}
WATCHED = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]  # passes after which the accuracy is measured
FAR = 2  # times as far from the maximum-margin line as the nearest point: not what should decide the line
# One choice changed at a time, to see whether the answer hinges on it: in 1,000 passes the hinge nearly converges.
VARIATIONS: dict[str, dict] = {
    "1 pass": {"passes": 1},
    "10 passes": {"passes": 10},
    "100 passes": {"passes": 100},
    "step 0.01": {"learning_rate": 0.01},
    "step 0.1": {"learning_rate": 0.1},
    "step 10": {"learning_rate": 10.0},
    "fixed order": {"order": "fixed"},
    "random start": {"start": "normal"},
}
COLORS = {"perceptron": plotting.BLUE, "hinge": plotting.VERMILION, "maximum margin": plotting.GREEN}
LABELS = {"perceptron": "perceptron (a = 0)", "hinge": "hinge (a = 1)", "maximum margin": "maximum margin (SVM)"}


def sample(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return n points x (n, 2), uniform in the unit square, and their classes y (n,): +1 where x1 > x2, else -1."""
    x = rng.random((n, 2))
    return x, np.where(x[:, 0] > x[:, 1], 1.0, -1.0)


def predict(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the classes (r, n) that the weights w (r, 2) give the points x (n, 2); w . x = 0 counts as negative."""
    return np.where(w @ x.T > 0, 1.0, -1.0)


def train(
    x: np.ndarray, y: np.ndarray, a: float, *, learning_rate: float, orders: np.ndarray, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Train r weight vectors at once, each on its own n points, on the loss max(0, a - y (w . x)).

    x (r, n, 2), y (r, n), orders (passes, n) the order of the points in each pass, w (r, 2) the start. At the kink,
    y (w . x) = a, the subgradient is taken from the sloping side: so the perceptron leaves w = 0, where it has
    predicted nothing yet. Stops after a pass in which no weight vector moved, since none can move again.
    Returns the weights (r, 2), each point's number of updates (r, n), and whether the last pass was free of them (r,).
    """
    (w1, w2), updates = w.T.copy(), np.zeros((x.shape[1], len(x)), dtype=int)
    converged = np.zeros(len(x), dtype=bool)
    signed = np.ascontiguousarray((y[..., None] * x).transpose(1, 2, 0))  # (n, 2, r): the r sets lie side by side
    for order in orders:
        before = updates.sum(axis=0)
        for point in order:
            z1, z2 = signed[point]
            violated = w1 * z1 + w2 * z2 <= a
            step = learning_rate * violated
            w1 += step * z1
            w2 += step * z2
            updates[point] += violated
        converged = updates.sum(axis=0) == before
        if converged.all():
            break
    return np.stack([w1, w2], axis=1), updates.T, converged


def by_pass(
    x: np.ndarray, y: np.ndarray, a: float, *, learning_rate: float, orders: np.ndarray, passes: list[int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the weights (r, 2) after each of so many `passes`, and the updates (r, n) since the one before.

    The training is `train`'s from w = 0, taken up again where it was; x, y, orders as there.
    """
    w = np.zeros((len(x), 2))
    for first, last in pairwise([0, *passes]):
        w, updates, _ = train(x, y, a, learning_rate=learning_rate, orders=orders[first:last], w=w)
        yield w, updates


def far_away(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return which points (n,) are more than FAR times as far from the maximum-margin line as the nearest is."""
    return y * (x @ maximum_margin(x, y)) > FAR  # the nearest have 1 there


def exact_accuracy(w: np.ndarray) -> np.ndarray:
    """Return the accuracy (...) of weights w (..., 2) over the whole unit square.

    The weights' line passes through the origin. It enters the square only if w1 and w2 have opposite signs; between
    it and the diagonal then lies a triangle with one leg 1 and the other 1 - r, r = min(|w1|, |w2|) / max(|w1|, |w2|),
    so of area (1 - r) / 2, which is the error if w1 > 0 > w2, and the accuracy if w1 < 0 < w2. Otherwise one class
    is predicted everywhere: 1/2, as for w = 0.
    """
    small, large = np.sort(np.abs(w), axis=-1).T
    r = np.divide(small, large, out=np.zeros_like(small), where=large > 0).T
    return (1 + r * (np.sign(w[..., 0]) - np.sign(w[..., 1])) / 2) / 2


def maximum_margin(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the maximum-margin weights (2,) through the origin, |w| = 1 / margin, for points x (n, 2), classes y (n,).

    scikit-learn's SVC has an intercept; on the points and their mirror images it is zero by symmetry. Its length, which
    its stopping rule leaves off by a percent now and then, is set by the nearest point. Raises ValueError for points
    that no line through the origin separates.
    """
    both, classes = np.concatenate([x, -x]), np.concatenate([y, -y])
    w = SVC(kernel="linear", C=1e10, tol=1e-6, max_iter=10**6).fit(both, classes).coef_[0]
    margin = np.min(y * (x @ w))
    if not margin > 0:
        raise ValueError("no line through the origin separates these points")
    return w / margin


def configs(preset: str) -> list[dict]:
    """Return the runs: each criterion at the assignment's size, at other sizes, and with one choice changed."""
    size = PRESETS[preset]
    main = {
        "train_size": TRAIN_SIZE,
        "test_size": TEST_SIZE,
        "training_sets": size.training_sets,
        "passes": size.passes,
        "learning_rate": LEARNING_RATE,
        "order": "shuffled",
        "start": "zero",
        "seed": SEED,
    }
    runs = []
    for criterion, a in CRITERIA.items():
        base = {"criterion": criterion, "a": a, **main}
        for n in size.sizes:
            runs.append({"name": f"{criterion}_{n}_points", "variation": "none", **base, "train_size": n})
        for variation, change in VARIATIONS.items():
            runs.append({"name": f"{criterion}_{variation}", "variation": variation, **base, **change})
        watched = [passes for passes in WATCHED if passes <= size.passes]
        runs.append({"name": f"{criterion}_by_pass", "variation": "by pass", **base, "watched": watched})
    runs.append({"name": "maximum margin", "variation": "none", "criterion": "maximum margin", "a": None, **main})
    return runs


def run(config: dict, options: Options = DEFAULTS) -> dict:
    """Train on every training set of the config and return what became of each.

    The k-th training set depends on the seed, k and its size alone: criteria and variations are compared on the same
    sets, and all on the same test points. Returns, one value for each training set, "accuracy" (on the test points),
    "exact_accuracy" (over the square), "updates" and "converged"; "disagreement", one for each pair of sets; and for
    the first set its points "x", "y" and the weights "w"; for the reference also "novikoff", the bound on mistakes.
    """
    seed, n, r = config["seed"], config["train_size"], config["training_sets"]
    test_x, test_y = sample(config["test_size"], np.random.default_rng([seed, 0]))
    sets = [sample(n, np.random.default_rng([seed, 1, n, k])) for k in range(r)]
    x, y = np.stack([x for x, _ in sets]), np.stack([y for _, y in sets])
    extra = {}
    if config["variation"] == "by pass":
        return {
            **learning_curve(config, x, y, test_x, test_y),
            "environment": {"precision": "float64", "device": "cpu"},
        }
    if config["criterion"] == "maximum margin":
        w = np.stack([maximum_margin(*points) for points in sets])
        updates, converged = np.zeros((r, n), dtype=int), np.ones(r, dtype=bool)
        extra["novikoff"] = np.sum(w**2, axis=1) * np.max(np.sum(x**2, axis=2), axis=1)  # (R / margin)^2
    else:
        rng = np.random.default_rng([seed, 2])
        shuffled = np.stack([rng.permutation(n) for _ in range(config["passes"])])
        orders = shuffled if config["order"] == "shuffled" else np.tile(np.arange(n), (config["passes"], 1))
        start = rng.normal(size=(r, 2)) if config["start"] == "normal" else np.zeros((r, 2))
        rate = config["learning_rate"]
        w, updates, converged = train(x, y, config["a"], learning_rate=rate, orders=orders, w=start)
    predictions = predict(w, test_x)
    return {
        "accuracy": np.mean(predictions == test_y, axis=1),
        "exact_accuracy": np.round(exact_accuracy(w), 6),
        "disagreement": np.mean(predictions[0::2] != predictions[1::2], axis=1),
        "updates": updates.sum(axis=1),
        "converged": converged,
        "x": x[0],
        "y": y[0],
        "w": w[0],
        "environment": {"precision": "float64", "device": "cpu"},
        **extra,
    }


def learning_curve(config: dict, x: np.ndarray, y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> dict:
    """Return, after each watched number of passes, every set's accuracy, and the updates since the one before.

    "accuracy_after" (watched, sets); "updates_since" and, of these, "updates_far_away" (watched,), over all sets.
    """
    rng = np.random.default_rng([config["seed"], 2])
    orders = np.stack([rng.permutation(x.shape[1]) for _ in range(config["passes"])])
    far = np.stack([far_away(*points) for points in zip(x, y, strict=True)])
    result: dict[str, list] = {"accuracy_after": [], "updates_since": [], "updates_far_away": []}
    choices = {"learning_rate": config["learning_rate"], "orders": orders, "passes": config["watched"]}
    for w, updates in by_pass(x, y, config["a"], **choices):
        result["accuracy_after"].append(np.mean(predict(w, test_x) == test_y, axis=1))
        result["updates_since"].append(updates.sum())
        result["updates_far_away"].append(updates[far].sum())
    return result


def summarise(frame: pd.DataFrame) -> dict:
    """Return the report's numbers: accuracies, their difference, disagreement between training sets, variations."""
    at_all_sizes = frame[frame.variation == "none"]
    main = at_all_sizes[at_all_sizes.train_size == TRAIN_SIZE].set_index("criterion")
    curves = frame[frame.variation == "by pass"].set_index("criterion")
    varied, protocol = frame[~frame.variation.isin(["none", "by pass"])], frame.iloc[0]
    change, exact = hinge_minus_perceptron(main.accuracy), main.exact_accuracy.map(np.array)
    of_novikoff = np.array(main.updates["perceptron"]) / main.novikoff["maximum margin"]
    return {
        "protocol": {key: protocol[key] for key in ("training_sets", "passes", "learning_rate", "test_size")}
        | {"far": FAR},
        **{criterion: describe(row) for criterion, row in main.iterrows()},
        "difference": mean_interval(change),
        "difference_disagreement": mean_interval(hinge_minus_perceptron(main.disagreement)),
        "test": {
            "wilcoxon_p": stats.wilcoxon(np.rint(change * TEST_SIZE)).pvalue,
            "hinge_better": np.mean(change > 0),
            "perceptron_better": np.mean(change < 0),
        },
        "gap_to_maximum_margin": {name: mean_interval(exact["maximum margin"] - exact[name]) for name in CRITERIA},
        "largest_share_of_novikoff": of_novikoff.max(),
        "sizes": {str(size): compare(rows) for size, rows in at_all_sizes.groupby("train_size", sort=False)},
        "variations": {name: compare(rows) for name, rows in varied.groupby("variation", sort=False)},
        "by_pass": {criterion: describe_curve(row) for criterion, row in curves.iterrows()},
    }


def describe_curve(row: pd.Series) -> dict:
    """Return a criterion's accuracy after each watched number of passes, and the far points' share of the updates.

    The share is NaN where no update was made.
    """
    made, far = np.array(row.updates_since), np.array(row.updates_far_away)
    return {
        "passes": row.watched,
        "accuracy": [mean_interval(accuracies) for accuracies in row.accuracy_after],
        "far_share": np.divide(far, made, out=np.full(len(made), np.nan), where=made > 0),
    }


def describe(row: pd.Series) -> dict:
    """Return the numbers of one run: of its first training set ("main_*"), and of all."""
    return {
        "main_accuracy": row.accuracy[0],
        "main_exact_accuracy": row.exact_accuracy[0],
        "accuracy": mean_interval(row.accuracy),
        "exact_accuracy": mean_interval(row.exact_accuracy),
        "accuracy_5_percent": np.quantile(row.accuracy, 0.05),
        "disagreement": mean_interval(row.disagreement),
        "converged": np.mean(row.converged),
        "updates": mean_interval(row.updates),
    }


def compare(rows: pd.DataFrame) -> dict:
    """Return what the two criteria reach with the same choices, and the differences, hinge minus perceptron."""
    runs = rows.set_index("criterion")
    numbers: dict[str, dict] = {
        "difference": mean_interval(hinge_minus_perceptron(runs.accuracy)),
        "difference_disagreement": mean_interval(hinge_minus_perceptron(runs.disagreement)),
    }
    for criterion in CRITERIA:
        numbers[criterion] = {
            "accuracy": mean_interval(runs.accuracy[criterion]),
            "disagreement": mean_interval(runs.disagreement[criterion]),
            "converged": np.mean(runs.converged[criterion]),
        }
    return numbers


def hinge_minus_perceptron(column: pd.Series) -> np.ndarray:
    """Return the difference of a number, training set by training set (or pair by pair)."""
    return np.array(column["hinge"]) - column["perceptron"]


def draw(frame: pd.DataFrame, summary: dict) -> plotting.Figure:
    """Return the figure: a training set with its lines, accuracy and updates by pass, disagreement against size."""
    figure, axes = plotting.subplots(2, 2, height=4.6)
    points, error, far, disagreement = axes.flat
    main = frame[(frame.variation == "none") & (frame.train_size == TRAIN_SIZE)].set_index("criterion")
    x, y = np.array(main.x.iloc[0]), np.array(main.y.iloc[0])
    ends = {"xlim": (0.88, 1), "ylim": (0.88, 1), "xticks": [0.9, 1], "yticks": [0.9, 1]}
    corner = points.inset_axes((0.17, 0.68, 0.28, 0.28), **ends)
    corner.tick_params(labelsize=5, pad=1)
    # The last two nearly coincide: the hinge is drawn on top of a broad band.
    styles: dict[str, dict[str, Any]] = {
        "perceptron": {"linestyle": "-"},
        "maximum margin": {"linestyle": "-", "linewidth": 3, "alpha": 0.4},
        "hinge": {"linestyle": "--"},
    }
    markers = {"perceptron": "o", "hinge": "s"}
    for ax in (points, corner):
        ax.plot([0, 1], [0, 1], color=plotting.BLACK, linestyle=":", label="true line")
        for criterion, style in styles.items():
            w = main.w[criterion]
            ax.plot([0, 1], [0, -w[0] / w[1]], **style, color=COLORS[criterion], label=LABELS[criterion])
    for chosen, marker in ((x[y > 0], "+"), (x[y < 0], "_")):
        points.scatter(*chosen.T, marker=marker, color=plotting.BLACK, linewidth=1, s=18, clip_on=False)
    points.indicate_inset_zoom(corner, edgecolor="0.4")
    points.set(xlabel="$x_1$", ylabel="$x_2$", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    for criterion, curve in summary["by_pass"].items():
        drawn: dict[str, Any] = {"color": COLORS[criterion], "marker": markers[criterion], **styles[criterion]}
        low, mean, high = plotting.bounds(curve["accuracy"])
        error.plot(curve["passes"], 1 - mean, **drawn)
        error.fill_between(curve["passes"], 1 - high, 1 - low, color=COLORS[criterion], alpha=0.2, linewidth=0)
        far.plot(curve["passes"], curve["far_share"], **drawn)
    least = 1 - summary["maximum margin"]["accuracy"]["mean"]
    error.axhline(least, color=COLORS["maximum margin"], **styles["maximum margin"])
    error.set(xscale="log", yscale="log", xlabel="passes", ylabel="test error")
    plotting.in_ones_twos_and_fives(error.yaxis)
    plotting.in_percent(error.yaxis, 0)
    far.set(xscale="log", xlabel="passes", ylabel="updates by far points")
    plotting.in_percent(far.yaxis, 0)
    sizes = [int(n) for n in summary["sizes"]]
    for criterion in CRITERIA:
        intervals = [numbers[criterion]["disagreement"] for numbers in summary["sizes"].values()]
        style = {**styles[criterion], "marker": markers[criterion]}
        plotting.show_interval(disagreement, sizes, intervals, COLORS[criterion], **style)
    disagreement.set(xscale="log", yscale="log", xlabel="training points", ylabel="share of test classes changed")
    plotting.label_panels(axes)
    figure.legend(*points.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def main(argv: list[str] | None = None) -> None:
    """Run what is not recorded yet, then draw the figure and write the summary."""
    options = parse_args(__doc__, argv)
    frame = sweep(STEM, run, configs(options.preset), options, workers=machine.cores())  # on the CPU
    summary = summarise(frame)
    plotting.save(draw(frame, summary), STEM, options)
    write_summary(STEM, summary, options, frame)


if __name__ == "__main__":
    main()
