"""Draw every figure and their contact sheet, and compile both PDFs from what is recorded; trains nothing.

    python report/build.py                  report/*.pdf and figures/ from the committed records
    python report/build.py --preset quick   build/quick/*.pdf from the quick preset's

A missing record, number or figure stops it, named.
"""

import datetime
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import typst

from utils.cli import ROOT, Options, cores, parse_args
from utils.files import say, shown, write_whole
from utils.gallery import contact_sheet

# The same bytes for the same results: a fixed date in the PDF, and only the fonts that typst brings.
TIMESTAMP = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)


def draw_figures(options: Options) -> None:
    """Run every finished script with --replot, in processes of their own; ends with status 1 if one fails.

    A script is finished when its summary is there; one that is not is named and left out, and a report that needs it
    will not build. Problem 4's are run again for LeNet-5 where that has a summary; they read each other's summaries, so
    they run one after the other.
    """
    flags = ["--replot", "--preset", options.preset, "--data-dir", options.data_dir]
    if options.output:
        flags += ["--output", options.output]
    scripts = sorted(path for folder in ("ist597_norms", "coms6998_hw2") for path in (ROOT / folder).glob("p*.py"))
    unfinished = [path for path in scripts if not (options.results_dir / f"{path.stem}.json").exists()]
    for path in unfinished:
        missing = shown(options.results_dir / f"{path.stem}.json")
        say(f"{path.stem}: not run to its end yet ({missing} is missing); not drawn")
    commands = [[path] for path in scripts if path not in unfinished]
    lenet5 = [path for path in scripts if (options.results_dir / f"{path.stem}_lenet5.json").exists()]
    fourth = [command for command in commands if command[0].stem.startswith("p4_")]
    series = [[command] for command in commands if command not in fourth]
    series += [fourth, [[path, "--network", "lenet5"] for path in lenet5]]

    def draw(commands):
        done = [(path, subprocess.run([sys.executable, path, *rest, *flags])) for path, *rest in commands]
        return [path.stem for path, process in done if process.returncode]

    with ThreadPoolExecutor(cores()) as pool:
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
    say(f"{source.stem}: report in {shown(target)}")
    return target


def _inputs(options, root):
    """Return what the .typ files are told: the preset, and where the results and figures are, seen from the root."""
    stems = sorted(path.stem for path in options.results_dir.glob("*.json"))
    inputs = {"preset": options.preset, "finished": ",".join(stems)}
    for name, folder in (("results", options.results_dir), ("figures", options.figures_dir)):
        if not folder.resolve().is_relative_to(root):
            sys.exit(f"{folder} is outside {root}, where typst cannot read it; choose another --output.")
        inputs[name] = "/" + folder.resolve().relative_to(root).as_posix()
    return inputs


def main(argv: list[str] | None = None) -> None:
    """Draw, then compile."""
    options = parse_args(__doc__, argv, runs=False)
    _inputs(options, ROOT)  # else the figures would be drawn in vain
    draw_figures(options)
    for source in sorted((ROOT / "report").glob("*.typ")):
        if source.stem != "template":
            compile_report(source, options)
    contact_sheet(options)


if __name__ == "__main__":
    main()
