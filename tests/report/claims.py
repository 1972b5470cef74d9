"""What the summaries say, and what the literature does: from these a test asserts a sentence of the reports."""

import json

from utils.cli import ROOT

RESULTS = ROOT / "report" / "results"
LITERATURE = json.loads((ROOT / "report" / "literature.json").read_text(encoding="utf-8"))


def summary(stem):
    """Return a script's committed summary."""
    return json.loads((RESULTS / f"{stem}.json").read_text(encoding="utf-8"))
