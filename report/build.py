"""Draw every figure and compile both PDFs from what is recorded; trains nothing.

    python report/build.py                  report/*.pdf, figures/ and the README's answers from the committed records
    python report/build.py --preset quick   build/quick/*.pdf from the quick preset's
    python report/build.py --no-figures     from the figures and summaries that are there

A missing record, number or figure stops it, named.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's modules, whatever is installed
import utils  # noqa: F401  first: it settles what libraries take from the environment

# isort: split

import datetime
import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import typst

from utils import machine
from utils.cli import ROOT, Options, parse_args
from utils.files import say, short_path, write_whole

BEGIN, END = "<!-- answers: written by report/build.py -->", "<!-- end of answers -->"
# The same bytes for the same results: a fixed date in the PDF, and only the fonts that typst brings.
TIMESTAMP = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)


def draw_figures(options: Options) -> None:
    """Run every script with --replot, in processes of their own; ends with status 1 if one fails.

    Problem 4's read each other's summaries, so they run one after the other.
    """
    flags = ["--replot", "--preset", options.preset, "--data-dir", str(options.data_dir)]
    if options.output:
        flags += ["--output", str(options.output)]
    scripts = sorted(path for folder in ("ist597_norms", "coms6998_hw2") for path in (ROOT / folder).glob("p*.py"))
    fourth = [path for path in scripts if path.stem.startswith("p4_")]
    series = [fourth, *([path] for path in scripts if path not in fourth)]

    def draw(paths):
        failed = []
        for path in paths:
            if subprocess.run([sys.executable, path, *flags]).returncode:
                failed.append(path.stem)
        return failed

    with ThreadPoolExecutor(machine.cores()) as pool:
        failed = [stem for stems in pool.map(draw, series) for stem in stems]
    if failed:
        sys.exit(f"{', '.join(failed)} could not draw the figures; the PDFs were not built.")


def compile_report(source: Path, options: Options, root: Path = ROOT) -> Path:
    """Compile a .typ file to <results_dir>/../<its stem>.pdf and return that path; ends with status 1 on an error.

    The source, the results and the figures must lie below `root`: typst reads nothing outside it.
    """
    target, inputs = options.results_dir.parent / f"{source.stem}.pdf", _inputs(options, root)
    try:
        pdf = typst.compile(source, root=root, sys_inputs=inputs, ignore_system_fonts=True, timestamp=TIMESTAMP)
    except typst.TypstError as error:
        sys.exit(f"{source.stem}: {error.message}\n{error.diagnostic}")
    write_whole(target, lambda file: file.write(pdf))
    say(f"{source.stem}: report in {short_path(target)}")
    return target


def answers(source: Path, options: Options, root: Path = ROOT) -> list[dict]:
    """Return a report's answers as its source has them: "question", "text", "script", "figure" (None: the script's)."""
    inputs = _inputs(options, root)
    options_of_typst = {"root": root, "sys_inputs": inputs, "ignore_system_fonts": True}
    return json.loads(typst.query(source, "<answer>", field="value", **options_of_typst))


def with_answers(readme: str, options: Options) -> str:
    """Return the README with the table of the reports' answers between its two marks."""
    rows = ["| question | answer | script, figure |", "|---|---|---|"]
    for source, course in (("ist597", "IST597"), ("coms6998_hw2", "COMS6998")):
        for answer in answers(ROOT / "report" / f"{source}.typ", options):
            script = Path(answer["script"])
            figure = answer["figure"] or script.stem
            links = f"[{script.name}]({script}), [figure](figures/{figure}.png)"
            rows.append(f"| {course} {answer['question']} | {answer['text']} | {links} |")
    table = "\n".join([BEGIN, *rows, END])
    return re.sub(f"{BEGIN}.*{END}", lambda _: table, readme, flags=re.DOTALL)


def _inputs(options, root):
    """Return what the .typ files are told: the preset, and where the results and figures are, seen from the root."""
    inputs = {"preset": options.preset}
    for name, folder in (("results", options.results_dir), ("figures", options.figures_dir)):
        if not folder.resolve().is_relative_to(root):
            sys.exit(f"{folder} is outside {root}, where typst cannot read it; choose another --output.")
        inputs[name] = "/" + folder.resolve().relative_to(root).as_posix()
    return inputs


def main(argv: list[str] | None = None) -> None:
    """Draw, then compile."""
    options = parse_args(__doc__, argv, runs=False)
    _inputs(options, ROOT)  # else the figures would be drawn in vain
    if options.figures:
        draw_figures(options)
    for source in sorted((ROOT / "report").glob("*.typ")):
        if source.stem != "template":
            compile_report(source, options)
    if options.results_dir == Options().results_dir:  # the committed results
        readme = ROOT / "README.md"
        text = with_answers(readme.read_text(encoding="utf-8"), options)
        write_whole(readme, lambda file: file.write(text.encode()))


if __name__ == "__main__":
    main()
