"""Files that are whole at any moment, and messages that a closed terminal does not turn into errors."""

import contextlib
import fcntl
import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from utils.cli import ROOT

# The end of a half-written file's name. The lock below holds among the processes of one machine; where several share
# a folder, each has names of its own.
UNFINISHED = f".{platform.node() or 'unknown'}.tmp"


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write(file)` fill the file, so that at any moment `path` is the old file or the new one, whole.

    Ends the program with status 1 where that is impossible (disk full, read-only folder), and leaves the old file.
    """
    temporary = path.with_name(f".{path.name}{UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent):
            try:
                with temporary.open("wb") as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        sys.exit(f"{short_path(path)} could not be written ({error.strerror}); what was recorded before is kept.")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system releases it when the process dies."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def short_path(path: Path) -> Path:
    """Return the path as a message names it: from the project's root where it is inside."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def say(text: str) -> None:
    """Print a line; if nobody reads the output any more, or it cannot be written, go on without a word."""
    _print(text, sys.stdout)


def warn(text: str) -> None:
    """Do the same on the standard error."""
    _print(text, sys.stderr)


def _print(text: str, stream: TextIO | None) -> None:
    if stream is None:  # closed by whoever started this program
        return
    try:
        print(text, file=stream, flush=True)
    except OSError:  # the reader has left, the log's disk is full, ...
        # What is left in the buffer goes nowhere, too, when the program ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
