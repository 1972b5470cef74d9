"""A script of the project on its quick preset, made smaller still: `python smallest.py p1_perceptron --output out`.

With the word "again" first, three of its records are computed again afterwards and compared bit for bit.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

import importlib
import json
from dataclasses import replace
from types import ModuleType

from utils import machine
from utils.cli import ROOT, parse_args
from utils.records import to_json

SCRIPTS = sorted([*(ROOT / "ist597_norms").glob("p*.py"), *(ROOT / "coms6998_hw2").glob("p*.py")])
# What a notebook's kernel exports, and what users of TensorFlow Probability and of Keras on torch are told to set.
OF_OTHERS = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "TF_USE_LEGACY_KERAS": "1",
    "KERAS_BACKEND": "torch",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
# What changes in the quick preset; a script without an entry fails.
CHANGES = {
    "p1_check_gradients": {"shapes": ["dense"], "steps": 2},
    "p1_compare_norms": {"images": 200, "rates": [0.01], "batch_sizes": [64], "depths": [1], "gradient_batches": 1},
    "p1_perceptron": {"training_sets": 20, "passes": 9, "sizes": [5, 20]},
    "p2_1_vanishing_gradients": {"seeds": 1, "train_images": 200, "test_images": 100},
    "p2_2_dying_relu": {"networks": 20, "epochs": 1, "map_networks": 500, "rai_networks": 9},
    "p3_lenet5": {"images": {200: 2, 80: 2}, "long_epochs": 3, "loaded": 400},
    "p4_1_fashion_mnist": {"images": 300},
    "p4_2_learning_rate_range": {"batch_size": 4, "images": 800},
    "p4_3_cyclical_learning_rate": {},
    "p4_4_batch_size_range": {"sizes": [4, 8, 16, 32, 64], "micro_batch": 4, "epochs": 3},
    "p4_6_cyclical_batch_size": {},
}


def smallest(stem: str) -> ModuleType:
    """Import the script with this stem, shrink its quick preset, and return it."""
    (path,) = [path for path in SCRIPTS if path.stem == stem]
    script = importlib.import_module(f"{path.parent.name}.{stem}")
    if changes := CHANGES[stem]:
        script.PRESETS["quick"] = replace(script.PRESETS["quick"], **changes)
    if stem == "p2_1_vanishing_gradients":
        script.STANDARD_DEVIATIONS.clear()
    if stem.startswith("p4_") and stem != "p4_1_fashion_mnist":
        # A network that is a hundred times as fast; MiniGoogLeNet has tests of its own.
        from coms6998_hw2.models import LeNet5
        from coms6998_hw2.problem_4 import training_run

        training_run.NETWORK = lambda share: LeNet5(batch_norm=True)
    machine.cores = lambda: 1  # one process, in which all this holds
    return script


def compare_again(script: ModuleType, folder: Path) -> None:
    """Run three of the recorded configs again and compare the results bit for bit."""
    paths = sorted(folder.iterdir())
    for path in (paths[0], paths[len(paths) // 2], paths[-1]):
        record = json.loads(path.read_text())
        result = to_json(script.run(record["config"]))
        del result["environment"]
        assert result == record["result"], path


def main():
    """Run the script and, if asked to, some of its configs again."""
    again = sys.argv[1] == "again"
    stem, *flags = sys.argv[1 + again :]
    flags = ["--preset", "quick", *flags]
    script = smallest(stem)
    script.main(flags)
    if again:
        compare_again(script, parse_args("", flags).results_dir / stem)


if __name__ == "__main__":
    main()
