"""Records and summaries: what a run leaves in report/results/, in JSON, and when it counts.

record = read_record(path, config)                what is recorded of exactly this config, or None
write_summary(stem, summary, options, frame)      what the figures' captions and the report read
"""

import hashlib
import json
import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from utils.cli import DEFAULTS, Options
from utils.files import say, short_path, write_whole
from utils.provenance import provenance

DIGITS = 6  # significant ones, of a summary's numbers
LONGEST_NAME = 150  # bytes: file systems allow 255, of which half-written files have an ending of their own


def record_name(config: dict) -> str:
    """Return the file name of a config's record, without its ending; a long one is cut and ends with its hash."""
    name = str(config.get("name") or "_".join(f"{key}={value}" for key, value in config.items()))
    name = "".join(character if character.isalnum() or character in "._=-+" else "-" for character in name)
    if len(name.encode()) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return name.encode()[: LONGEST_NAME - 17].decode(errors="ignore") + f"-{digest}"


def read_record(path: Path, config: dict | None = None) -> dict | None:
    """Return the record at `path` if it is a valid one, of exactly this config (of any, without one); else None."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        # Unlike ==, this tells 1, 1.0 and true apart.
        same = config is None or _dumps(record["config"]) == _dumps(to_json(config))
        valid = same and isinstance(record["config"], dict) and len({**record["result"]}) > 0 and record["seconds"] >= 0
        valid = valid and isinstance(record["environment"]["commit"], str)
    except PermissionError as error:  # somebody else's: it is there, and to run it again would not help
        sys.exit(f"{short_path(path)} cannot be read ({error.strerror}); nothing was run.")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not valid:
        return None
    record["result"].pop("diverged", None)  # older records name so what null says
    return record


def read_runs(stem: str, options: Options, **wanted: Any) -> pd.DataFrame:
    """Return the table of another script's records in whose configs these keys have these values, by seed.

    Numbers are compared to the six digits that a summary gives them with. Ends the program with status 1, naming the
    script, where there is no such record.
    """
    folder, records = options.results_dir / stem, []
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        names = []
    except OSError as error:
        sys.exit(f"{short_path(folder)} cannot be read ({error.strerror}).")
    for path in (folder / name for name in names if name.endswith(".json")):
        record = read_record(path)
        if record is not None:
            config = to_json(record["config"], digits=DIGITS)
            if wanted.items() <= config.items():
                records.append(record)
    if not records:
        sys.exit(f"{short_path(folder)} has no record of {wanted}: run the script {stem}.py with the same flags first.")
    return table(records).sort_values("seed", ignore_index=True)


def table(records: list[dict]) -> pd.DataFrame:
    """Return a row for each record: its config's keys, its result's, "seconds" and "environment"."""
    rows = []
    for record in records:
        beside = {"seconds": record["seconds"], "environment": record["environment"]}
        rows.append({**record["config"], **record["result"], **beside})
    return pd.DataFrame(rows)


def floats(values: Iterable) -> np.ndarray:
    """Return a record's numbers, or a column of lists of them, as an array; null, what was not finite, is NaN."""
    return np.array(list(values), dtype=float)


def last(column: Iterable) -> np.ndarray:
    """Return the last value of each run's list (runs,); null is NaN."""
    return floats(values[-1] for values in column)


def write_summary(stem: str, summary: dict, options: Options = DEFAULTS, frame: pd.DataFrame | None = None) -> Path:
    """Write <results>/<stem>.json, keys sorted, numbers to six significant digits, and return its path.

    frame: the runs that it is made of; the summary then also says their preset, their data set and their provenance.
    """
    path = options.results_dir / f"{stem}.json"
    if frame is not None:
        origin = {"preset": options.preset, "provenance": provenance(frame)}
        if "dataset" in frame:
            origin["dataset"] = frame.dataset.iloc[0]
        summary = {**summary, **origin}
    write_json(path, to_json(summary, digits=DIGITS), indent=1)
    say(f"{stem}: summary in {short_path(path)}")
    return path


def read_summary(stem: str, options: Options, dataset: str, keys: tuple[str, ...] = ()) -> dict:
    """Return another script's summary.

    Ends the program with status 1, naming the script, where there is none, where it lacks one of the `keys`, and where
    it was computed with another preset or from another data set than `dataset`.
    """
    path = options.results_dir / f"{stem}.json"
    try:
        summary = {**json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)}
    except FileNotFoundError:
        sys.exit(f"{short_path(path)} is missing: run the script {stem}.py with the same flags first.")
    except PermissionError as error:
        sys.exit(f"{short_path(path)} cannot be read ({error.strerror}).")
    except (ValueError, TypeError) as error:
        sys.exit(f"{short_path(path)} is not a summary ({error}): run the script {stem}.py again.")
    for key, wanted in (("preset", options.preset), ("dataset", dataset)):
        if summary.get(key) != wanted:
            sys.exit(
                f"{short_path(path)} is of the {key} {summary.get(key)}, and this run's is {wanted}: "
                f"run the script {stem}.py with the same flags first. Nothing was run."
            )
    if missing := set(keys) - set(summary):
        sys.exit(f"{short_path(path)} lacks {', '.join(sorted(missing))}: run the script {stem}.py again.")
    return summary


def to_json(value: Any, digits: int | None = None) -> Any:
    """Return the value in plain JSON types; what is not finite or masked, a diverged run's, becomes null.

    With `digits`, floats are rounded to that many significant digits. Raises TypeError for a value of another type and
    ValueError for two keys of one name.
    """
    if value is np.ma.masked:  # it would count as zero
        return None
    if isinstance(value, dict):
        named = {str(key): to_json(item, digits) for key, item in value.items()}
        if len(named) < len(value):
            raise ValueError(f"two of the keys {list(value)} have one name in JSON")
        return named
    if isinstance(value, np.ndarray) and value.ndim == 0:  # any torch scalar's .numpy()
        value = value.item()
    if isinstance(value, (list, tuple, np.ndarray)):
        return [to_json(item, digits) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        if not math.isfinite(value):
            return None
        return float(f"{value:.{digits}g}") if digits else float(value)
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"a record holds JSON values, not {type(value).__name__}: {value!r}")


def write_json(path: Path, value: dict, indent: int | None = None) -> None:
    """Write the value, of plain JSON types, to `path`: whole or not at all."""
    write_whole(path, lambda file: file.write((_dumps(value, indent) + "\n").encode()))


def check_json(value: dict) -> None:
    """Raise ValueError for a value, of plain JSON types, that JSON in UTF-8 does not hold (half a character, say)."""
    _dumps(value).encode()


def _dumps(value: dict, indent: int | None = None) -> str:
    return json.dumps(value, allow_nan=False, sort_keys=True, indent=indent, ensure_ascii=False)


def _refuse(constant):
    raise ValueError(f"{constant} is not JSON")
