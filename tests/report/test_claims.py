"""Every claim in the reports' text has a test of its name, and every such test a sentence."""

import re

import test_claims_ist597
import test_claims_problem_3
import test_claims_problem_4
import test_claims_problems_1_and_2

from utils.cli import ROOT

MODULES = (test_claims_ist597, test_claims_problem_3, test_claims_problem_4, test_claims_problems_1_and_2)
TEXT = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "report").rglob("*.typ"))]


def name_of_test(claim):
    """Return test_no_run_exceeds_novikoffs_bound for "no run exceeds Novikoff's bound"."""
    return "test_" + re.sub(r"\W+", "_", claim.lower().replace("'", "")).strip("_")


def test_every_claim_in_the_text_has_a_test_and_every_test_a_sentence():
    claims = {claim for source in TEXT for claim in re.findall(r'#claim\(\s*"([^"]+)"', source)}
    written = {name_of_test(claim) for claim in claims}
    tests = {name for module in MODULES for name in vars(module) if name.startswith("test_")}
    assert written - tests == set(), "claims without a test"
    assert tests - written == set(), "tests without a sentence"
