"""Problem 1's comparison: networks whose weights diverge, and which step size counts as the best."""

import math
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pandas as pd

from ist597_norms import p1_compare_norms as p1
from ist597_norms.norm_intervals import best_steps


def test_weights_without_a_direction_end_a_run_with_nan():
    config = {**p1.base_config("quick", "fashion_mnist"), "dataset": "digits", "images": 300, "epochs": 3}
    config |= {"mode": "weight", "learning_rate": 1e20}
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # a run sets TensorFlow's threads, once in a process
        diverged = pool.submit(p1.run, config).result()
    assert [len(diverged[key]) for key in ("train_loss", "validation_loss", "validation_accuracy")] == [3, 3, 3]
    assert math.isnan(diverged["validation_accuracy"][-1]) and math.isnan(diverged["test_accuracy"])
    assert len(diverged["active"]) == 4 and not math.isnan(diverged["active"][0][0])
    assert math.isnan(diverged["active"][-1][0]) and len(diverged["active"][-1]) == 2


def test_a_diverged_step_is_never_the_best():
    ends = [("weight", 0.3, 0.8, 0), ("weight", 1.0, None, 0), ("none", 0.3, 0.7, 0), ("none", 1.0, 0.9, 0)]
    rows = []
    for mode, rate, end, seed in [*ends, ("none", 0.3, 0.99, 1)]:
        run = {"part": "tuned", "seed": seed, "mode": mode, "learning_rate": rate, "validation_accuracy": [0.1, end]}
        rows.append(run)
    frame = pd.DataFrame(rows)
    assert best_steps(frame) == {"weight": 0.3, "none": 1.0}
