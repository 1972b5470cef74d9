"""Every comparative sentence of the reports has a name, and the committed summaries bear it out."""

import re

import claims_coms6998_hw2 as coms6998_hw2
import claims_ist597 as ist597
import pytest

from utils.cli import ROOT

CLAIMS = coms6998_hw2.CLAIMS | ist597.CLAIMS
CHECKS = coms6998_hw2.CHECKS | ist597.CHECKS


def claimed(source):
    """Return the names of the claims in a report's source."""
    return re.findall(r'#claim\(\s*"([^"]+)"', source)


TEXT = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "report").rglob("*.typ"))]


@pytest.mark.parametrize("claim", [*CLAIMS, *CHECKS])
def test_the_committed_results_bear_the_claim_out(claim):
    assert (CLAIMS | CHECKS)[claim]()


def test_every_claim_in_the_text_has_an_assertion_and_every_assertion_a_sentence():
    names = [name for source in TEXT for name in claimed(source)]
    assert set(names) - CLAIMS.keys() == set(), "claims without an assertion"
    assert CLAIMS.keys() - set(names) == set(), "assertions without a sentence"


# Words that compare results, and where they stand for something else: questions, definitions, other people's results.
COMPARING = (
    r"(?:more|less) (?:accurate|stable|trained)"
    r"|(?:higher|lower|better|worse|larger|smaller|faster|slower) (?:\w+ )?than"
    r"|\b(?:helps|beats|outperforms|gains|lowers|ahead of|about as long|not told apart)\b"
    r"|(?:matters|far) (?:more|worse)"
    r"|(?:rises?|ends?) (?:higher|lower|above|below)"
)
OTHERWISE = ("Which is more", "Why is layer norm better", "Which cyclical policy", "They too find",
             "That all are lower than ours may", "next layer learn faster than")  # fmt: skip


def within_claims(source):
    """Return the stretches of a source that are the text of a claim, as (start, end)."""
    found = []
    for match in re.finditer(r'#claim\(\s*"[^"]+"\)\[', source):
        depth, end = 1, match.end()
        while depth:
            depth += {"[": 1, "]": -1}.get(source[end], 0)
            end += 1
        found.append((match.end(), end))
    return found


def unnamed_comparisons(source):
    """Return the places where a source compares outside of a claim, some words around each."""
    spans = within_claims(source)
    for other in (r'"[^"\n]*"', r"^=.*$", r"#question\[[^\]]*\]"):  # names, headings, the assignment's questions
        source = re.sub(other, lambda match: "~" * len(match[0]), source, flags=re.MULTILINE)
    return [
        " ".join(source[max(0, match.start() - 60) : match.end() + 40].split())
        for match in re.finditer(COMPARING, source)
        if not any(start <= match.start() < end for start, end in spans)
    ]


def test_no_sentence_compares_results_without_a_name():
    found = [place for source in TEXT for place in unnamed_comparisons(source)]
    assert [place for place in found if not any(words in place for words in OTHERWISE)] == []


def test_a_comparison_without_a_name_would_be_found():
    assert unnamed_comparisons('#claim("a")[A is #f[x] better than B.] C') == []
    assert unnamed_comparisons("#claim()[A is good.] C is better than D") == ["#claim()[A is good.] C is better than D"]
