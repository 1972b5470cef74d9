"""Every claim in the reports' text has a test, and every such test a sentence."""

import re

import claims
import test_claims_ist597  # noqa: F401  they note what they assert
import test_claims_problem_3  # noqa: F401
import test_claims_problem_4  # noqa: F401
import test_claims_problems_1_and_2  # noqa: F401

from utils.cli import ROOT

TEXT = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "report").rglob("*.typ"))]


def test_every_claim_in_the_text_has_a_test_and_every_test_a_sentence():
    written = {name for source in TEXT for name in re.findall(r'#claim\(\s*"([^"]+)"', source)}
    assert written - set(claims.NAMES) == set(), "claims without a test"
    assert set(claims.NAMES) - written == set(), "tests without a sentence"
