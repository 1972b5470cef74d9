"""The reports: no number typed by hand, the same bytes for the same results, and no build without a result."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys

import pytest
import typst

from utils.cli import ROOT, Options

REPORT = ROOT / "report"
PROSE = sorted({*REPORT.glob("*.typ"), *REPORT.glob("*/*.typ")} - {REPORT / "template.typ"})
TEXT = [path.read_text(encoding="utf-8") for path in PROSE]
REPORTS = sorted(path for path in REPORT.glob("*.typ") if path.stem != "template")

specification = importlib.util.spec_from_file_location("build", REPORT / "build.py")
build = importlib.util.module_from_spec(specification)
specification.loader.exec_module(build)


def typed_decimals(source):
    """Return the decimal numbers in a .typ source's prose: not those of headings, keys, conditions and functions."""
    source = re.sub(r"^#let .*\{\n(?:.*\n)*?\}$|^#let .*$", " ", source, flags=re.MULTILINE)
    source = re.sub(r"#claim\(\(\) => .*?\)\[", "[", source)
    for noise in (r"//.*", r"^=+ .*$", r'"[^"\n]*"', r"\b(?:Questions?|section) \d\.\d(?: and \d\.\d)?", r"\[\d\.\d "):
        source = re.sub(noise, " ", source, flags=re.MULTILINE)
    return re.findall(r"\d+\.\d+", source)


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.stem)
def test_no_decimal_number_is_typed_into_the_prose(path):
    assert typed_decimals(path.read_text(encoding="utf-8")) == []


def test_a_typed_decimal_would_be_found():
    assert typed_decimals('== 1.1 Heading\nThe accuracy is 97.4% in #x.at("0.1") // 1.2\n[1.2 Hinge]') == ["97.4"]


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.stem)
def test_no_semicolon_is_swallowed_after_a_call(path):
    # In typst "#f(x);" ends the code there; the semicolon that the reader should see is "\\;".
    arguments = r"\((?:[^();]|\((?:[^();]|\([^();]*\))*\))*\)"
    content = r"\[(?:[^\[\]]|\[(?:[^\[\]]|\[[^\[\]]*\])*\])*\]"
    assert re.findall(rf"#\w[\w.-]*(?:{arguments}|{content}|\.\w+)*;", path.read_text(encoding="utf-8")) == []


@pytest.fixture
def copy(tmp_path):
    """Return a copy of the committed report in a root of its own, and the options that build there."""
    shutil.copytree(REPORT, tmp_path / "report", ignore=shutil.ignore_patterns("*.pdf"))
    shutil.copytree(ROOT / "figures", tmp_path / "report" / "figures", dirs_exist_ok=True)
    for folder in ("coms6998_hw2", "ist597_norms"):  # of which listings are cut
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path, Options(output=tmp_path / "report")


@pytest.mark.parametrize("source", REPORTS, ids=lambda path: path.stem)
def test_the_committed_pdf_is_what_the_committed_results_make(source, copy):
    root, options = copy
    pdf = build.compile_report(root / "report" / source.name, options, root).read_bytes()
    assert pdf == source.with_suffix(".pdf").read_bytes(), f"make report, and commit {source.stem}.pdf"


def test_a_folder_outside_of_the_project_is_refused_before_anything_is_drawn(tmp_path):
    words = [sys.executable, REPORT / "build.py", "--output", tmp_path / "elsewhere"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1 and "is outside" in done.stderr and not list(tmp_path.iterdir())


@pytest.fixture
def lacks_a_record(tmp_path):
    """Return a folder with the committed results and figures, but for one record of p1_perceptron."""
    output = ROOT / "build" / tmp_path.name  # typst reads nothing outside of the project
    shutil.copytree(REPORT / "results", output / "results")
    shutil.copytree(ROOT / "figures", output / "figures")
    next((output / "results" / "p1_perceptron").iterdir()).unlink()
    yield output
    shutil.rmtree(output)


def test_a_script_that_cannot_draw_stops_the_build(lacks_a_record, tmp_path, monkeypatch):
    for stem in ("p1_perceptron", "p4_1_fashion_mnist"):  # instead of all scripts
        (tmp_path / "coms6998_hw2").mkdir(exist_ok=True)
        (tmp_path / "coms6998_hw2" / f"{stem}.py").symlink_to(ROOT / "coms6998_hw2" / f"{stem}.py")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"^p1_perceptron could not draw the figures; the PDFs were not built\.$"):
        build.draw_figures(Options(output=lacks_a_record))


def test_without_figures_the_build_only_compiles(lacks_a_record):
    words = [sys.executable, REPORT / "build.py", "--no-figures", "--output", lacks_a_record]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0 and "figure in" not in done.stdout, done.stderr
    assert {path.stem for path in lacks_a_record.glob("*.pdf")} == {path.stem for path in REPORTS}


@pytest.mark.parametrize("source", REPORTS, ids=lambda path: path.stem)
def test_a_missing_number_or_figure_stops_the_build_by_name(source, copy):
    root, options = copy
    text = "".join(path.read_text(encoding="utf-8") for path in PROSE if source.stem in str(path))
    stem = re.search(r'summary\("(\w+)"\)', text).group(1)
    summary = root / "report" / "results" / f"{stem}.json"
    content = json.loads(summary.read_text())
    summary.write_text(json.dumps({"protocol": content["protocol"]}))
    with pytest.raises(SystemExit, match=rf"{source.stem}: dictionary does not contain key"):
        build.compile_report(root / "report" / source.name, options, root)
    summary.unlink()
    with pytest.raises(SystemExit, match=f"{stem}.json"):
        build.compile_report(root / "report" / source.name, options, root)
    summary.write_text(json.dumps(content))
    figure = re.search(r'picture\(\s*"(\w+)"', text).group(1)
    (root / "report" / "figures" / f"{figure}.svg").unlink()
    with pytest.raises(SystemExit, match=f"{figure}.svg"):
        build.compile_report(root / "report" / source.name, options, root)


@pytest.mark.parametrize("source", REPORTS, ids=lambda path: path.stem)
def test_a_report_of_a_stand_in_says_so_on_its_first_page_and_at_each_question_concerned(source, copy):
    root, options = copy
    inputs = build._inputs(options, root)

    def named():
        found = typst.query(root / "report" / source.name, "<stand-in>", field="value", root=root, sys_inputs=inputs)
        return json.loads(found)

    assert named() == []
    stem = {"ist597": "p1_compare_norms", "coms6998_hw2": "p3_lenet5"}[source.stem]
    path = root / "report" / "results" / f"{stem}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dataset": "digits"}))
    questions = [answer["question"] for answer in build.answers(root / "report" / source.name, options, root)]
    concerned = {"ist597": questions[2:], "coms6998_hw2": [name for name in questions if name.startswith("3.")]}
    assert named() == ["the first page", *concerned[source.stem]]


def test_the_readme_has_an_answer_for_every_question_as_the_reports_give_it():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert build.with_answers(readme, Options()) == readme, "make report, and commit README.md"
    rows = [row for row in readme.splitlines() if row.startswith(("| COMS6998", "| IST597"))]
    questions = sum(source.count("#question[") for source in TEXT)
    assert len(rows) == questions and len(readme.splitlines()) <= 100
    linked = re.findall(r"\]\(([^)]+)\)", readme)
    assert [path for path in linked if not (ROOT / path).exists()] == []


def test_an_answers_words_are_those_of_its_sentence(tmp_path):
    """Figures, signs, lower and upper indices; what a claim wraps; no bold, no references."""
    source = tmp_path / "one.typ"
    shutil.copy(REPORT / "template.typ", tmp_path)
    source.write_text(
        '#import "template.typ": *\n'
        '#answer("1", "a.py")[lr#sub[min] is #significant(2e-5, digits: 1), *or* '
        "#claim(() => 1 < 2)[$x$ #fixed(0.5, 2)].][M]"
    )
    options = Options(output=tmp_path)
    (answer,) = build.answers(source, options, tmp_path)
    assert answer["text"] == "lr_min is 2\u00a0\u00d7\u00a010^\u22125, or x 0.50."


def tampered(value, change):
    """Return a summary in which change(interval) stands for every interval."""
    if isinstance(value, list):
        return [tampered(item, change) for item in value]
    if not isinstance(value, dict):
        return value
    if {"low", "high"} <= value.keys() and value["low"] is not None:
        return {**value, **change(value)}
    return {key: tampered(item, change) for key, item in value.items()}


def turned(interval):
    """Return the interval of the opposite sign."""
    middle = "mean" if "mean" in interval else "fraction"
    return {middle: -interval[middle], "low": -interval["high"], "high": -interval["low"]}


WITH_INTERVALS = [path for path in sorted((REPORT / "results").glob("p*.json")) if '"low"' in path.read_text()]


@pytest.mark.parametrize("path", WITH_INTERVALS, ids=lambda path: path.stem)
def test_a_result_that_turns_its_sign_stops_the_build_at_a_sentence(path, copy):
    root, options = copy
    copied = root / "report" / "results" / path.name
    copied.write_text(json.dumps(tampered(json.loads(path.read_text()), turned)))
    source = root / "report" / ("ist597.typ" if path.stem == "p1_compare_norms" else "coms6998_hw2.typ")
    with pytest.raises(SystemExit, match="the results do not bear out the sentence: "):
        build.compile_report(source, options, root)


def test_no_condition_of_a_sentence_is_a_constant():
    conditions = re.findall(r"#claim\(\s*(.*)", "\n".join(TEXT))
    assert len(conditions) > 100 and all(condition.startswith("() => ") for condition in conditions)
    assert [condition for condition in conditions if re.match(r"\(\) => (not )?(true|false)\b", condition)] == []


@pytest.mark.parametrize("source", REPORTS, ids=lambda path: path.stem)
def test_most_conditions_fail_where_intervals_are_wider_or_points(source, copy):
    """The others are of plain numbers. typst lists all sentences, and whether each holds, where it is asked to."""
    root, options = copy
    inputs = build._inputs(options, root) | {"claims": "list"}

    def failing():
        listed = typst.query(root / "report" / source.name, "<claim>", field="value", root=root, sys_inputs=inputs)
        return len(json.loads(listed)), {i for i, claim in enumerate(json.loads(listed)) if not claim["holds"]}

    number, failed = failing()
    assert number > 40 and not failed
    for change in (lambda _: {"low": -1e9, "high": 1e9}, lambda interval: dict.fromkeys(("low", "high"), 0.5)):
        for path in WITH_INTERVALS:
            copied = root / "report" / "results" / path.name
            copied.write_text(json.dumps(tampered(json.loads(path.read_text()), change)))
        failed |= failing()[1]
    assert len(failed) > number / 2
