"""The faults that the tests try, and the table of them in docs/reliability.md.

@fault("the disk is full", "one sentence, status 1, ...")      above a test: a row of the table
python tests/machinery/faults.py                                writes the table into the page
"""

import importlib
import re
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
FILES = ("test_runs", "test_data", "test_interruptions", "test_faults", "test_environment", "test_scripts", "test_ray")
BEGIN, END = "<!-- faults: written by tests/machinery/faults.py -->", "<!-- end of faults -->"


def fault(what: str, then: str):
    """Return a decorator that notes what a test does to the project, and what it sees happen then."""

    def note(test):
        test.fault = (what, then)
        return test

    return note


def table() -> str:
    """Return the table in Markdown: every fault, what happens then, and the test, in the order of the files."""
    rows = []
    for name in FILES:
        for key, test in vars(importlib.import_module(name)).items():
            if key.startswith("test_") and hasattr(test, "fault"):
                what, then = (text.replace("|", "\\|") for text in test.fault)
                rows.append(f"| {what} | {then} | `{name}.py::{key}` |")
    lines = [
        f"{len(rows)} faults, each tried by a test:",
        "",
        "| fault | what happens | test |",
        "|---|---|---|",
        *rows,
    ]
    return "\n".join(lines)


def with_table(page: str) -> str:
    """Return the page with the table of today's tests between its two marks."""
    return re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{table()}\n{END}", page, flags=re.DOTALL)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
