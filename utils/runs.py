"""A sweep: every config is run once, here, in processes or on a cluster, recorded, and read back as one table.

frame = sweep(stem, run, configs, options)    one row for each config; run(config, options) returns a result
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from utils import data, machine
from utils.cli import Options
from utils.files import say, short_path, warn
from utils.provenance import environment
from utils.records import check_json, read_record, record_name, table, to_json, write_json

RESERVED = ("seconds", "environment")  # columns of the table that are neither a config's nor a result's
REPLACED = ".replaced"  # ending of a record that --fresh has set aside until there is a new one


def sweep(
    stem: str,
    run: Callable,
    configs: list[dict],
    options: Options,
    later: Iterable[Callable] = (),
    workers: int | None = None,
) -> pd.DataFrame:
    """Run every config that has no valid record, and return all records as a table: a row a config, in order.

    A config is a flat dict of JSON values, "seed" included; its key "name", if there, names the record; its "dataset"
    is replaced by one that can be loaded (see `data.resolve`). `run(config, options)` returns a dict of JSON values or
    NumPy arrays; its key "environment", such as {"precision": "float64", "device": "cpu"}, says what it computed in
    and where. A record is valid exactly when its config equals the requested one.
    `later`: functions of the table so far and the options that return the configs that come next.
    `workers`: as many processes share the runs of a CPU sweep, on one thread each; without it, as many as fill the
    cores, or a GPU; on quick one. On a Ray cluster (options.ray) a run asks for a CPU and, without `workers`, for a
    share of a GPU where there are any.
    Columns: the config's keys, the result's, "seconds" and "environment".
    Ends the program with status 1 where a run raised (the others are recorded first), where with --replot a record is
    missing, and where the folder cannot be written; with 130 or 143 where it was interrupted, saying how to resume.
    With --fresh all records are set aside once, before the first run, so that after an interruption the same command
    without --fresh does the rest.
    """
    gpu_share = machine.GPU_SHARE if workers is None else 0.0
    workers = machine.workers(options.device) if workers is None else workers
    if options.preset == "quick":
        workers = 1  # others would take longer to start than the runs; make does two scripts at a time
    frame = _records_of(stem, run, data.resolve(configs, options), options, workers, gpu_share)
    options = replace(options, fresh=False)
    for next_configs in later:
        more = data.resolve(next_configs(frame, options), options)
        rows = _records_of(stem, run, more, options, workers, gpu_share)
        frame = pd.concat([frame, rows], ignore_index=True)
    return frame


def progress(items: Iterable, total: int, label: str) -> Iterator:
    """Yield the items with a progress bar on a terminal; elsewhere with a line from time to time."""
    if sys.stderr is not None and sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=label, leave=False)
        return
    start = said = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - said > 10:
            said, left = now, (now - start) / done * (total - done)
            warn(f"{label}: {done}/{total} done, about {left:.0f} s left")


def _records_of(stem, run, configs, options, workers, gpu_share):
    """Run what is not recorded of these configs, and return the table of all."""
    folder = options.results_dir / stem
    for config in configs:
        _check_config(config)
    paths = {folder / f"{record_name(config)}.json": config for config in configs}
    if len(paths) != len(configs):
        raise ValueError(f"{stem}: two of the {len(configs)} configs have one name")
    todo = {path: config for path, config in paths.items() if options.fresh or read_record(path, config) is None}
    if options.replot and todo:
        names = ", ".join(path.stem for path in list(todo)[:5]) + (", ..." if len(todo) > 5 else "")
        missing = f"{len(todo)} of {len(configs)} runs are not recorded in {short_path(folder)} ({names})"
        sys.exit(f"{stem}: {missing}; nothing drawn.")
    if not options.replot:
        if blocked := [short_path(path) for path in todo if path.is_dir()]:
            sys.exit(f"{stem}: {blocked[0]} is a folder, where a record should be; remove it. Nothing was run.")
        if options.ray is not None:
            attempts = _attempts_on_ray(run, todo, options, gpu_share)
        else:
            attempts = _attempts(run, todo, options, workers)
        _run(stem, todo, folder, attempts, fresh=options.fresh)
    records = [record for path, config in paths.items() if (record := read_record(path, config)) is not None]
    if len(records) < len(paths):
        sys.exit(f"{stem}: {len(paths) - len(records)} records have vanished from {short_path(folder)}; run it again.")
    return table(records)


def _run(stem, todo, folder, attempts, fresh):
    if not todo:
        say(f"{stem}: every run is recorded in {short_path(folder)}")
        return
    _check_writable(folder)
    say(f"{stem}: runs to do: {len(todo)}, records in {short_path(folder)}")
    if fresh:
        for path in folder.glob("*.json"):
            os.replace(path, f"{path}{REPLACED}")
    failed = []
    # Closed at once: an interruption while a record is written would else leave the workers to run all that is queued.
    with _resumable(stem), contextlib.closing(attempts):
        for path, record, error in progress(attempts, len(todo), stem):
            if error:
                warn(error)
                failed.append(todo[path])
            elif record:
                write_json(path, record)
                Path(f"{path}{REPLACED}").unlink(missing_ok=True)
    if failed:
        listing = "\n".join(f"  {json.dumps(to_json(config))}" for config in failed)
        sys.exit(f"{stem}: {len(failed)} of {len(todo)} runs failed, the others are recorded:\n{listing}")


def _attempts(run, todo, options, workers):
    """Yield (path, record, error) for each run, here or, with several workers, from processes as they finish."""
    if workers == 1 or len(todo) == 1:
        for path, config in todo.items():
            yield path, *_attempt(run, path, config, options)
        return
    left = dict(todo)
    while left:
        try:
            with contextlib.closing(_pool(run, dict(left), options, workers)) as finished:
                for path, record, error in finished:
                    del left[path]
                    yield path, record, error
        except OSError as error:  # /dev/shm is read-only, full or not there
            reason = error.strerror or error
            warn(f"processes cannot share memory here ({reason}): one process does all runs, one after the other.")
            yield from _attempts(run, left, options, workers=1)
            return
        # A worker that is killed takes its pool along. Those that may have been in flight are tried again, each alone,
        # so that only a run which kills its worker again has failed.
        for path in list(left)[: workers + 1]:
            attempts = list(_pool(run, {path: left.pop(path)}, options, workers=1))
            yield from attempts or [(path, None, f"its worker was killed, for want of memory perhaps ({path.stem})")]


def _pool(run, todo, options, workers):
    """Yield (path, record, error) for each run as a process finishes it, and end early where a process is killed."""
    waiting = list(todo.items())
    running: dict = {}
    with executor(min(workers, len(todo))) as pool, contextlib.suppress(BrokenProcessPool):
        while waiting or running:
            while waiting and len(running) <= workers:  # one more than are computed: none waits for the next
                path, config = waiting.pop(0)
                running[pool.submit(_attempt, run, path, config, options)] = path
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), *future.result()


@contextlib.contextmanager
def executor(workers: int) -> Iterator[Any]:
    """Make processes that compute what is submitted, and end them at once at the end of the block, however it ends."""
    from joblib.externals import loky

    # An interruption leaves no time to hand back the pool's semaphores, which are gone with the processes anyway.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    pool = loky.ProcessPoolExecutor(workers, initializer=_follow_parent, initargs=(os.getpid(),))
    try:
        yield pool
    finally:
        pool.shutdown(kill_workers=True)


def _attempts_on_ray(run, todo, options, gpu_share):
    """Yield (path, record, error) for each run as it finishes somewhere on the cluster."""
    from utils import ray_runs

    jobs = {path: (run, path, config, options) for path, config in todo.items()}
    gpu_share = gpu_share if options.device in ("auto", "cuda") else 0
    gpu_needed = options.device == "cuda"
    for path, record, error in ray_runs.attempts(_attempt, jobs, options.ray, gpu_share, gpu_needed):
        yield path, record, error and f"{error} ({path.stem})"


def _attempt(run, path, config, options):
    """Return (record, error): the record is None where another process has written it meanwhile."""
    if not options.fresh and read_record(path, config) is not None:
        return None, None
    try:
        return record_of(run, config, options), None
    except (Exception, SystemExit):
        return None, traceback.format_exc()


def record_of(run: Callable, config: dict, options: Options) -> dict:
    """Return the record of run(config, options), made now, in plain JSON types."""
    start = time.perf_counter()
    result = to_json(run(config, options))
    used = _take_environment(result)
    _check_result(result, config)
    record = {
        "config": to_json(config),
        "result": result,
        "environment": {**environment(), **used},
        "seconds": round(time.perf_counter() - start, 3),
    }
    check_json(record)
    return record


def _check_config(config):
    """Raise ValueError for a config that a record or a row of the table cannot hold, before anything runs."""
    for key in config:
        if not isinstance(key, str) or key in RESERVED:
            raise ValueError(f"a config has the key {key!r}; it must be a string and none of {', '.join(RESERVED)}")
    try:
        check_json(to_json(config))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the config {config!r} cannot be recorded: {error}") from error


def _take_environment(result):
    """Take the key "environment" out of a run's result, and return it."""
    if not isinstance(result, dict):
        raise TypeError(f"run returned {type(result).__name__}; a result is a dict of JSON values or arrays")
    used = result.pop("environment", None)
    if not isinstance(used, dict) or not all(isinstance(used.get(key), str) for key in ("precision", "device")):
        example = '{"precision": "float64", "device": "cpu"}'
        raise TypeError(f"run returned the environment {used!r}; it must name what was used, such as {example}")
    return used


def _check_result(result, config):
    """Raise ValueError for a result that the table could not tell from nothing, or from the config."""
    if not result:
        raise ValueError("run returned no result")
    if both := sorted(result.keys() & {*config, *RESERVED}):
        raise ValueError(f"run returned {', '.join(both)}, which the table's row has already; give it another name")


def _follow_parent(parent):
    """Leave Ctrl-C to the parent, and end when it ends, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _check_writable(folder: Path) -> None:
    """Make the folder; end with status 1 where nothing can be written into it, before anything is run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        sys.exit(f"{folder} cannot be written ({error.strerror}); nothing was run. Name another folder with --output.")


@contextlib.contextmanager
def _resumable(stem):
    """Turn Ctrl-C and SIGTERM into one sentence and the usual exit status."""
    terminated = []

    def stop(signum, frame):
        terminated.append(signum)
        raise KeyboardInterrupt

    in_main = threading.current_thread() is threading.main_thread()  # no other thread may set a handler, nor needs one
    previous = signal.signal(signal.SIGTERM, stop) if in_main else None
    try:
        yield
    except KeyboardInterrupt:
        warn(f"\n{stem}: interrupted; every finished run is recorded, the same command without --fresh goes on.")
        sys.exit(143 if terminated else 130)
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, previous)
