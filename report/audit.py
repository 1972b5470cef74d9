"""Run recorded runs again, drawn at random over all scripts, and compare them with their records; nothing is written.

    python report/audit.py                          for ten minutes (--minutes 30: longer; --seed 1: other runs)
    python report/audit.py --device cuda            the runs that were recorded on a GPU

A line for each: "identical", or the number that moved most, then and now. Status 1 where one differs by more than the
machine explains, which is

- nothing, if the record was made on the same kind of CPU;
- rounding, for what is computed before any training;
- for what is measured after training, the largest difference between two seeds of one setting of that script:
  training is chaotic, so that another machine's rounding is another draw, as another seed is.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

import argparse
import importlib
import json
import math
import time
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, wait

import numpy as np
from tqdm import tqdm

from utils import machine
from utils.cli import ROOT, Options, parse_args
from utils.files import say
from utils.records import read_record
from utils.runs import executor, record_of

ROUNDING = 1e-4  # relative: sums of single precision in another order
SOLVER = 1e-5  # relative: what stops at a tolerance of its own
# By script: the numbers that no training precedes with the rounding allowed them, and the one measured after it.
BEFORE_TRAINING = {
    "p1_perceptron": {"": SOLVER},
    "p1_check_gradients": {"difference": SOLVER},
    "p2_1_vanishing_gradients": {"rms_": ROUNDING, "theory_": ROUNDING},
    "p2_2_dying_relu": {"dead": 0.0},
    "p4_1_fashion_mnist": {"": 0.0},
}
AFTER_TRAINING = {
    "p1_compare_norms": "test_accuracy",
    "p2_1_vanishing_gradients": "train_loss",
    "p2_2_dying_relu": "collapsed",
    "p3_lenet5": "test_accuracy",
    "p4_2_learning_rate_range": "batch_loss",
    "p4_3_cyclical_learning_rate": "test_accuracy",
    "p4_4_batch_size_range": "batch_loss",
    "p4_6_cyclical_batch_size": "test_accuracy",
}
# The gradient check's own results are rounding: they are compared with what the report calls rounding.
LARGEST_GAP = {"float64": 1e-10, "float32": 0.1}


def numbers(value: object, name: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number in a result with the keys that lead to it; null, what was not finite, is NaN."""
    if isinstance(value, dict):
        for key, item in sorted(value.items()):
            yield from numbers(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item, name)
    elif value is None or isinstance(value, (int, float)):
        yield name, math.nan if value is None else float(value)


def largest_change(old: dict, new: dict, prefix: str) -> tuple[str, float, float, float]:
    """Return (name, then, now, change) of the number below `prefix` that changed most, relative to what it was."""
    worst = ("", 0.0, 0.0, 0.0)
    for (name, then), (_, now) in zip(numbers(old), numbers(new), strict=True):
        if name.startswith(prefix) and not (math.isnan(then) and math.isnan(now)):
            change = 0.0 if then == now else abs(now - then) / max(abs(then), 1e-12)
            if not change <= worst[3]:  # NaN, on one side only, is the largest
                worst = (name, then, now, change)
    return worst


def after_training(result: dict, name: str) -> float:
    """Return a number at the end of training: the last of a list; NaN if it is not there or not finite."""
    value = result.get(name)
    if isinstance(value, list):
        value = value[-1]
    return math.nan if value is None else float(value)


def largest_spread(records: list[dict], name: str) -> float:
    """Return the largest difference of a number between two seeds of one setting."""
    settings: dict[str, list[float]] = {}
    for record in records:
        setting = {key: value for key, value in record["config"].items() if key not in ("name", "seed")}
        settings.setdefault(json.dumps(setting, sort_keys=True), []).append(after_training(record["result"], name))
    return max((float(np.ptp(values)) for values in settings.values() if np.all(np.isfinite(values))), default=0.0)


def verdict(stem: str, record: dict, again: dict, records: list[dict]) -> tuple[bool, str]:
    """Return whether a run's second record is explained by its first, and a line that says how they compare.

    records: all of the script, whose seeds say what training does to rounding.
    """
    old, new = record["result"], {key: value for key, value in again["result"].items() if key in record["result"]}
    if missing := old.keys() - new.keys():
        return False, f"it gives no {', '.join(sorted(missing))} any more"
    if old == new:
        return True, "identical"
    if record["environment"].get("cpu") == again["environment"]["cpu"] and again["environment"]["device"] == "cpu":
        name, then, now, _ = largest_change(old, new, "")
        return False, f"{name}: {then:.6g} then, {now:.6g} now, on the same kind of CPU"
    if stem == "p1_check_gradients" and "difference" not in new:
        largest = max(value for name, value in numbers(new) if not name.startswith("loss"))
        bound = LARGEST_GAP[record["config"]["dtype"]]
        return largest <= bound, f"largest gap {largest:.2g}; {bound:g} is rounding"
    for prefix, bound in BEFORE_TRAINING.get(stem, {}).items():
        name, then, now, change = largest_change(old, new, prefix)
        if not change <= bound:
            return False, f"{name}: {then:.6g} then, {now:.6g} now; {bound:g} of it is rounding"
    name = AFTER_TRAINING.get(stem, "")
    then, now = after_training(old, name), after_training(new, name)
    if then == now or (math.isnan(then) and math.isnan(now)):
        moved, _, _, change = largest_change(old, new, "")
        return True, f"rounding: {moved} by {change:.1g} of itself, {name or 'nothing else'} as it was"
    bound = largest_spread(records, name)
    return abs(now - then) <= bound, f"{name}: {then:.6g} then, {now:.6g} now; seeds differ by up to {bound:.2g}"


def candidates(options: Options, seed: int) -> Iterator[tuple[str, dict]]:
    """Yield (stem, record) of the runs that this device can repeat: every script in turn, its runs at random."""
    rng, left = np.random.default_rng(seed), {}
    for stem, records in all_records(options).items():
        on_a_gpu = machine.torch_device(options.device).type == "cuda"
        usable = [record for record in records if (record["environment"]["device"] == "cuda") == on_a_gpu]
        left[stem] = [usable[i] for i in rng.permutation(len(usable))]
    while any(left.values()):
        for stem in rng.permutation(list(left)):
            if left[stem]:
                yield str(stem), left[stem].pop()


def all_records(options: Options) -> dict[str, list[dict]]:
    """Return the records of every script."""
    records = {}
    for folder in sorted(path for path in options.results_dir.iterdir() if path.is_dir()):
        read = [read_record(path) for path in sorted(folder.glob("*.json"))]
        records[folder.name] = [record for record in read if record is not None]
    return records


def repeat(stem: str, config: dict, options: Options) -> dict:
    """Return a new record of a config, made by its script as it is now."""
    (path,) = [*(ROOT / "ist597_norms").glob(f"{stem}.py"), *(ROOT / "coms6998_hw2").glob(f"{stem}.py")]
    return record_of(importlib.import_module(f"{path.parent.name}.{stem}").run, config, options)


def repeated(options: Options, seconds: float, seed: int) -> Generator[tuple[str, dict, dict], None, None]:
    """Yield (stem, record, its repetition) for as many runs as fit the time, by their recorded seconds.

    A run is begun if it would end in time at the pace of those before it.
    """
    workers, end = machine.workers(options.device), time.monotonic() + seconds
    pace, waiting = [1.0], candidates(options, seed)
    running: dict = {}
    with executor(workers) as pool:
        while True:
            while len(running) < workers and time.monotonic() < end:
                stem, record = next(waiting, ("", {}))
                if not record:
                    break
                if record["seconds"] * np.median(pace) <= end - time.monotonic():
                    running[pool.submit(repeat, stem, record["config"], options)] = stem, record
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                stem, record = running.pop(future)
                again = future.result()
                pace.append(again["seconds"] / max(record["seconds"], 1.0))
                yield stem, record, again


def main(argv: list[str] | None = None) -> None:
    """Repeat, compare, say; status 1 where a difference is not explained."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--minutes", type=float, default=10)
    own.add_argument("--seed", type=int, default=0)
    chosen, rest = own.parse_known_args(argv)
    options = parse_args(__doc__, rest)
    if not chosen.minutes > 0:
        sys.exit(f"--minutes is {chosen.minutes}; it must be positive")
    say(f"this machine: {machine.cpu_kind()}")
    records, identical, explained, unexplained = all_records(options), 0, 0, 0
    runs, start = repeated(options, 60 * chosen.minutes, chosen.seed), time.monotonic()
    bar = tqdm(total=chosen.minutes, unit="min", disable=None, leave=False)  # on a terminal
    try:
        for stem, record, again in runs:
            good, line = verdict(stem, record, again, records[stem])
            name = record["config"].get("name", "")
            bar.write(f"{'' if good else 'UNEXPLAINED '}{stem}/{name}: {line} ({again['seconds']:.0f} s)")
            bar.update((time.monotonic() - start) / 60 - bar.n)
            identical += line == "identical"
            explained += good and line != "identical"
            unexplained += not good
    except KeyboardInterrupt:
        say("interrupted")
    finally:
        runs.close()
        bar.close()
    total = identical + explained + unexplained
    say(f"{total} runs repeated: {identical} identical, {explained} within the bounds, {unexplained} unexplained")
    sys.exit(unexplained > 0 or total == 0)


if __name__ == "__main__":
    main()
