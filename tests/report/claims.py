"""What the reports say and what the summaries say: a sentence in a source has a name, and here a test of that name.

@claim("the hinge is more accurate after the full budget")      above the test that asserts the sentence
"""

import json

from utils.cli import ROOT

RESULTS = ROOT / "report" / "results"
LITERATURE = json.loads((ROOT / "report" / "literature.json").read_text(encoding="utf-8"))
NAMES = []  # of the claims that a test asserts


def claim(name):
    """Return a decorator that notes which sentence a test asserts."""

    def note(test):
        NAMES.append(name)
        return test

    return note


def summary(stem):
    """Return a script's committed summary."""
    return json.loads((RESULTS / f"{stem}.json").read_text(encoding="utf-8"))
