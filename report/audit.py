"""Run recorded runs again, drawn at random over all scripts, and compare them with their records; nothing is written.

    python report/audit.py                          for ten minutes (--minutes 30: longer; --seed 1: other runs)
    python report/audit.py --device cuda            the runs that were recorded on a GPU

A line for each: "identical", or the number that moved most, then and now. Status 1 where a number differs by more than
the machine explains, which is

- nothing, if the record was made on the same kind of CPU, in the same precision, by the same versions;
- rounding, for what no training precedes, and for everything where training has not parted;
- where it has, SEEDS times the spread over seeds of the same setting: training is chaotic, so that another machine's
  rounding is another draw, as another seed is. Every number of a result is compared so, lists by their mean.
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
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from utils import machine
from utils.cli import ROOT, Options, parse_args
from utils.data import DataUnavailable, UnusableFile
from utils.files import say
from utils.records import read_record
from utils.runs import executor, record_of

ROUNDING = 1e-4  # relative: sums of single precision in another order
SEEDS = 3  # times the spread over seeds
# The scripts of which rounding is all that another machine changes, with what is allowed: nothing where numbers are
# counted, the tolerance of a solver that stops at one.
WITHOUT_TRAINING = {"p1_perceptron": 1e-5, "p4_1_fashion_mnist": 0.0}
COUNTED = ("dead", "relu_dead_layers", "leaky_dead_layers")  # results of p2_2_dying_relu that are counts at birth
AT_INITIALIZATION = ("rms_", "theory_", "quantiles_", "image_share")  # of p2_1_vanishing_gradients
# The gradient check's results are rounding themselves: no larger than this, and of the size that they were.
LARGEST_GAP, SAME_SIZE = {"float64": 1e-10, "float32": 0.05}, 100.0


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


def means(result: dict) -> dict[str, float]:
    """Return the mean of the finite numbers below each name of a result; NaN where there is none."""
    lists: dict[str, list[float]] = {}
    for name, value in numbers(result):
        lists.setdefault(name, []).append(value)
    averaged = {}
    for name, values in lists.items():
        finite = [value for value in values if math.isfinite(value)]
        averaged[name] = float(np.mean(finite)) if finite else math.nan
    return averaged


def change(then: float, now: float) -> float:
    """Return by what share of itself a number changed: 0 for NaN twice, infinite for NaN once."""
    if then == now or (math.isnan(then) and math.isnan(now)):
        return 0.0
    relative = abs(now - then) / max(abs(then), 1e-12)
    return relative if math.isfinite(relative) else math.inf


def largest_change(old: dict, new: dict) -> tuple[str, float, float, float]:
    """Return (name, then, now, change) of the number that changed most; another count of numbers is an infinite one."""
    before, after = list(numbers(old)), list(numbers(new))
    if [name for name, _ in before] != [name for name, _ in after]:
        return "the count of numbers", len(before), len(after), math.inf
    rows = [(name, then, now, change(then, now)) for (name, then), (_, now) in zip(before, after, strict=True)]
    return max(rows, key=lambda row: row[3], default=("", 0.0, 0.0, 0.0))


def same_machine(record: dict, again: dict) -> bool:
    """Return whether both were computed on one kind of CPU, in one precision, by the same versions."""
    keys = ("cpu", "device", "precision", "python", "numpy", "torch", "tensorflow")
    then, now = record["environment"], again["environment"]
    return now["device"] == "cpu" and "cpu" in then and all(then.get(key) == now.get(key) for key in keys)


def beyond_seeds(record: dict, new: dict, records: list[dict]) -> str:
    """Return the first number that moved by more than seeds explain, in words; an empty text where none did.

    A number may move by SEEDS times the range of the other seeds' numbers and the new one; where a setting has a
    single seed, by as large a share of itself as is usual, in the median, over the script's settings with several.
    """
    then, now = means(record["result"]), means(new)
    setting, others = setting_of(record), []
    by_setting: dict[str, list[dict]] = {}
    for other in records:
        by_setting.setdefault(setting_of(other), []).append(means(other["result"]))
        if setting_of(other) == setting and other["config"] != record["config"]:
            others.append(means(other["result"]))
    for name, value in now.items():
        if change(then[name], value) <= ROUNDING:
            continue
        if math.isnan(then[name]) or math.isnan(value):
            return f"{name}: {then[name]:.6g} then, {value:.6g} now"
        values = [row[name] for row in others if math.isfinite(row.get(name, math.nan))]
        if values:
            allowed = SEEDS * float(np.ptp([*values, value]))
        else:
            shares = []
            for rows in by_setting.values():
                found = [row[name] for row in rows if math.isfinite(row.get(name, math.nan))]
                if len(found) > 1:
                    shares.append(float(np.ptp(found)) / max(abs(float(np.mean(found))), 1e-12))
            allowed = SEEDS * float(np.median(shares)) * abs(value) if shares else math.nan
        if math.isnan(allowed):
            continue  # nobody has measured how far seeds move it
        if not abs(value - then[name]) <= allowed:
            return f"{name}: {then[name]:.6g} then, {value:.6g} now; seeds explain {allowed:.2g}"
    return ""


def setting_of(record: dict) -> str:
    """Return a record's config without its name and its seed."""
    setting = {key: value for key, value in record["config"].items() if key not in ("name", "seed")}
    return json.dumps(setting, sort_keys=True)


def verdict(stem: str, record: dict, again: dict, records: list[dict]) -> tuple[bool, str]:
    """Return whether a run's second record is explained by its first, and a line that says how they compare.

    records: all of the script, whose seeds say what training makes of rounding.
    """
    old, new = record["result"], {key: value for key, value in again["result"].items() if key in record["result"]}
    if missing := old.keys() - new.keys():
        return False, f"it gives no {', '.join(sorted(missing))} any more"
    name, then, now, moved = largest_change(old, new)
    line = f"{name}: {then:.6g} then, {now:.6g} now"
    if old == new:
        return True, "identical"
    if same_machine(record, again):
        return False, f"{line}, on the same kind of CPU"
    if stem == "p1_check_gradients" and "difference" not in new:
        both = [value for result in (old, new) for key, value in numbers(result) if not key.startswith("loss")]
        sizes = [max(value for key, value in numbers(result) if not key.startswith("loss")) for result in (old, new)]
        bound = LARGEST_GAP[record["config"]["dtype"]]
        good = all(value <= bound for value in both) and max(sizes) <= SAME_SIZE * max(min(sizes), 1e-16)
        return good, f"largest gap {sizes[0]:.2g} then, {sizes[1]:.2g} now; up to {bound:g} is rounding"
    if len(list(numbers(old))) != len(list(numbers(new))):
        return False, line
    if stem in WITHOUT_TRAINING:
        return moved <= WITHOUT_TRAINING[stem], f"{line}; {WITHOUT_TRAINING[stem]:g} of it is rounding"
    counted = {key: value for key, value in old.items() if key in COUNTED}
    if counted != {key: new[key] for key in counted}:
        return False, f"{line}; a count does not depend on the machine"
    start = {key: value for key, value in old.items() if key.startswith(AT_INITIALIZATION)}
    name, first, second, moved_first = largest_change(start, {key: new[key] for key in start})
    if moved_first > 10 * ROUNDING:  # quantiles are recorded with four digits
        return False, f"{name}: {first:.6g} then, {second:.6g} now, before any training"
    if moved <= ROUNDING:
        return True, f"{line}, which is rounding"
    beyond = beyond_seeds(record, new, records)
    return not beyond, beyond or f"{line}; every mean within what seeds explain"


def all_records(options: Options) -> tuple[dict[str, list[dict]], list[str]]:
    """Return the records of every script, and the names of the files that are none."""
    records: dict[str, list[dict]] = {}
    unreadable = []
    folders = sorted(options.results_dir.glob("*/")) if options.results_dir.is_dir() else []
    for folder in folders:
        for path in sorted(folder.glob("*.json")):
            record = read_record(path)
            if record is None:
                unreadable.append(f"{folder.name}/{path.name}")
            else:
                records.setdefault(folder.name, []).append(record)
    return records, unreadable


def candidates(records: dict[str, list[dict]], options: Options, seed: int) -> Iterator[tuple[str, dict]]:
    """Yield (stem, record) of the runs to repeat, on a GPU with --device cuda: every script in turn, runs at random."""
    rng, left = np.random.default_rng(seed), {}
    device = "cuda" if options.device == "cuda" else "cpu"
    for stem, of_script in records.items():
        usable = [record for record in of_script if record["environment"]["device"] == device]
        left[stem] = [usable[i] for i in rng.permutation(len(usable))]
    while any(left.values()):
        for stem in rng.permutation(list(left)):
            if left[stem]:
                yield str(stem), left[stem].pop()


def repeat(stem: str, config: dict, options: Options) -> dict:
    """Return a new record of a config, made by its script as it is now."""
    (path,) = [*(ROOT / "ist597_norms").glob(f"{stem}.py"), *(ROOT / "coms6998_hw2").glob(f"{stem}.py")]
    return record_of(importlib.import_module(f"{path.parent.name}.{stem}").run, config, options)


def repeated(
    records: dict[str, list[dict]], options: Options, seconds: float, seed: int
) -> Generator[tuple[str, dict, dict | Exception], None, None]:
    """Yield (stem, record, its repetition or the error) for as many runs as fit the time, by their recorded seconds.

    A run is begun if it would end in time at the pace of those before it.
    """
    device = "cuda" if options.device == "cuda" else "cpu"
    options = replace(options, device=device)
    workers, end = machine.workers(device), time.monotonic() + seconds
    pace, waiting = [1.5], candidates(records, options, seed)
    running: dict = {}
    with executor(workers) as pool:
        while True:
            while len(running) < workers and time.monotonic() < end:
                stem, record = next(waiting, ("", {}))
                if not record:
                    break
                if record["seconds"] * max(pace) <= end - time.monotonic():
                    running[pool.submit(repeat, stem, record["config"], options)] = stem, record
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                stem, record = running.pop(future)
                try:
                    again = future.result()
                    if record["seconds"] > 5:  # start-up aside
                        pace.append(again["seconds"] / record["seconds"])
                    yield stem, record, again
                except Exception as error:
                    yield stem, record, error


def main(argv: list[str] | None = None) -> None:
    """Repeat, compare, say; status 1 where a difference is not explained, 130 where it was interrupted."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--minutes", type=float, default=10)
    own.add_argument("--seed", type=int, default=0)
    chosen, rest = own.parse_known_args(argv)
    options = parse_args(__doc__, rest)
    if not 0 < chosen.minutes < math.inf:
        sys.exit(f"--minutes is {chosen.minutes}; it must be positive")
    if options.fresh or options.replot or options.ray:
        sys.exit("an audit repeats runs here and writes nothing: --fresh, --replot and --ray do not go with it")
    records, unreadable = all_records(options)
    if not records:
        sys.exit(f"{options.results_dir} has no records to repeat.")
    say(f"this machine: {machine.cpu_kind()}")
    for name in unreadable:
        say(f"UNEXPLAINED {name}: it is no record")
    counts = {"identical": 0, "within the bounds": 0, "unexplained": len(unreadable)}
    runs, start = repeated(records, options, 60 * chosen.minutes, chosen.seed), time.monotonic()
    bar = tqdm(total=chosen.minutes, unit="min", disable=None, leave=False)  # on a terminal
    status = 0
    try:
        for stem, record, again in runs:
            if isinstance(again, (DataUnavailable, UnusableFile)):
                sys.exit(str(again))
            if isinstance(again, Exception):
                good, line = False, f"it raises {type(again).__name__}: {again}"
            else:
                good, line = verdict(stem, record, again, records[stem])
                line += f" ({again['seconds']:.0f} s)"
            bar.write(f"{'' if good else 'UNEXPLAINED '}{stem}/{record['config'].get('name', '')}: {line}")
            bar.update((time.monotonic() - start) / 60 - bar.n)
            kind = "identical" if line.startswith("identical") else "within the bounds"
            counts[kind if good else "unexplained"] += 1
    except KeyboardInterrupt:
        status = 130
    finally:
        runs.close()
        bar.close()
    say(f"{sum(counts.values())} runs: " + ", ".join(f"{number} {kind}" for kind, number in counts.items()))
    sys.exit(status or int(counts["unexplained"] > 0 or not sum(counts.values())))


if __name__ == "__main__":
    main()
