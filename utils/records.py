"""Records and summaries: what a run leaves in report/results/, in JSON, and when it counts.

record = read_record(path, config)                what is recorded of exactly this config, or None
write_summary(stem, summary, options)             what the figures' captions and the report read
"""

import json
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from utils.cli import DEFAULTS, Options
from utils.files import say, shown, write_whole


def record_name(config: dict) -> str:
    """Return the file name of a config's record, without its ending."""
    name = config.get("name") or "_".join(f"{key}={value}" for key, value in config.items())
    return "".join(character if character.isalnum() or character in "._=-+" else "-" for character in str(name))


def read_record(path: Path, config: dict) -> dict | None:
    """Return the record at `path` if it is one of exactly this config, else None."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        same = _dumps(record["config"]) == _dumps(to_json(config)[0])  # unlike ==, this tells 1, 1.0 and true apart
        valid = same and len({**record["result"]}) > 0 and record["seconds"] >= 0
        valid = valid and isinstance(record["environment"]["commit"], str)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if valid else None


def complete_seeds(frame: pd.DataFrame, configs: list[dict]) -> pd.DataFrame:
    """Return the rows of the seeds of which every one of the configs is recorded; `frame` may lack some."""
    planned, recorded = Counter(config["seed"] for config in configs), Counter(frame.seed)
    return frame[[recorded[seed] == planned[seed] for seed in frame.seed]]


def write_summary(stem: str, summary: dict, options: Options = DEFAULTS) -> Path:
    """Write <results>/<stem>.json, keys sorted, numbers to six significant digits, and return its path."""
    path = options.results_dir / f"{stem}.json"
    write_json(path, to_json(summary, digits=6)[0], indent=1)
    say(f"{stem}: summary in {shown(path)}")
    return path


def read_summary(stem: str, options: Options, script: str | None = None) -> dict:
    """Return another script's summary; ends the program with status 1, naming the script, where there is none.

    `script`: what to run for it, by default <stem>.py.
    """
    script = script or f"{stem}.py"
    path = options.results_dir / f"{stem}.json"
    try:
        return {**json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)}
    except FileNotFoundError:
        sys.exit(f"{shown(path)} is missing: run the script {script} with the same flags first.")
    except (ValueError, TypeError) as error:
        sys.exit(f"{shown(path)} is not a summary ({error}): run the script {script} again.")


def to_json(value: Any, digits: int | None = None) -> tuple[Any, bool]:
    """Return (value in plain JSON types, whether it held a NaN or an infinity, which become null).

    With `digits`, floats are rounded to that many significant digits.
    """
    if isinstance(value, dict):
        named = {str(key): to_json(item, digits) for key, item in value.items()}
        return {key: pair[0] for key, pair in named.items()}, any(pair[1] for pair in named.values())
    if isinstance(value, (list, tuple, np.ndarray)):
        pairs = [to_json(item, digits) for item in value]
        return [pair[0] for pair in pairs], any(pair[1] for pair in pairs)
    if isinstance(value, (bool, np.bool_)):
        return bool(value), False
    if isinstance(value, (int, np.integer)):
        return int(value), False
    if isinstance(value, (float, np.floating)):
        value = float(value)
        if not math.isfinite(value):
            return None, True
        return (float(f"{value:.{digits}g}") if digits else value), False
    if value is None or isinstance(value, str):
        return value, False
    raise TypeError(f"a record holds JSON values, not {type(value).__name__}: {value!r}")


def write_json(path: Path, value: dict, indent: int | None = None) -> None:
    """Write the value, of plain JSON types, to `path`: whole or not at all."""
    write_whole(path, lambda file: file.write((_dumps(value, indent) + "\n").encode()))


def _dumps(value: dict, indent: int | None = None) -> str:
    return json.dumps(value, allow_nan=False, sort_keys=True, indent=indent, ensure_ascii=False)


def _refuse(constant):
    raise ValueError(f"{constant} is not JSON")
