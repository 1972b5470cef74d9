"""Every key of a summary is read: by a report, a figure or another script."""

import json
import re

import pytest

from utils.cli import ROOT

RESULTS = ROOT / "report" / "results"
TEXTS = (ROOT / "report").rglob("*.typ")
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in TEXTS)
# .key, .at("key"), ["key"], and ("key", ...) of a loop; in the code of figures only what is read off a summary.
IN_TEXT = set(re.findall(r"""[.](\w+)|["'](\w+)["']""", TEXT))
CODE = "\n".join(path.read_text() for name in ("ist597_norms", "coms6998_hw2") for path in (ROOT / name).rglob("*.py"))
SOURCES = r"(?:summary|numbers|protocol|rate_policy|batch_range|row|loss|level|look|looks\[variant\])"
IN_CODE = re.findall(SOURCES + r'((?:\["\w+"\])+)(?! =)', CODE)
READ = {word for pair in IN_TEXT for word in pair} | {word for keys in IN_CODE for word in re.findall(r"\w+", keys)}
STEMS = sorted(path.name for path in RESULTS.iterdir() if path.is_dir())


def variants(stem):
    """Return the words in a script's configs: keys that are made of them are read by loops."""
    records = [json.loads(path.read_text())["config"] for path in (RESULTS / stem).glob("*.json")]
    words = set()
    for config in records:
        for value in config.values():
            words.update(word for word in (value if isinstance(value, list) else [value]) if isinstance(word, str))
    return words


def keys_of(value):
    """Yield every key in a summary, at any depth."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else []):
        if isinstance(key, str):
            yield key
        yield from keys_of(item)


@pytest.mark.parametrize("stem", STEMS)
def test_every_key_of_a_summary_is_read(stem):
    summary = json.loads((RESULTS / f"{stem}.json").read_text())
    del summary["provenance"], summary["preset"]
    made_of_variants = re.compile("|".join(rf"(^|_){re.escape(name)}(_|$)" for name in variants(stem)))
    names = {key for key in keys_of(summary) if re.fullmatch(r"[A-Za-z_]\w*", key) and not made_of_variants.search(key)}
    assert names - READ - {"dataset"} == set()  # which says what the numbers are of, a stand-in perhaps
