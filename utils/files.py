"""Files that are whole at any moment, and the lines that a program says."""

import os
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from utils.cli import ROOT


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write(file)` fill the file, so that at any moment `path` is the old file or the new one, whole.

    Ends the program with status 1 where that is impossible (disk full, read-only folder), and leaves the old file.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")  # others may write the same file now
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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


def short_path(path: Path) -> Path:
    """Return the path as a message names it: from the project's root where it is inside."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def warn(text: str) -> None:
    """Print a line at once on the standard error."""
    print(text, file=sys.stderr, flush=True)
