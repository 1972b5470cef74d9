"""The flags that every script shares, their bad values, and --help."""

import sys

import pytest
from smallest import SCRIPTS
from sweeping import run

from utils.cli import ROOT, parse_args


def test_defaults_are_the_full_protocol():
    options = parse_args("doc", [])
    assert (options.preset, options.fresh, options.replot, options.device) == ("full", False, False, "auto")
    assert options.data_dir == ROOT / "data"
    assert options.results_dir == ROOT / "report" / "results" and options.figures_dir == ROOT / "figures"


def test_quick_stays_out_of_the_committed_folders(tmp_path):
    assert parse_args("doc", ["--preset", "quick"]).results_dir == ROOT / "build" / "quick" / "results"
    assert parse_args("doc", ["--output", str(tmp_path)]).figures_dir == tmp_path / "figures"


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--preset", "half"], ["--preset", "half", "quick", "full"]),
        (["--device", "tpu"], ["--device", "tpu", "auto", "cpu", "cuda"]),
        (["--device", "cuda"], ["--device", "cuda", "auto, cpu"]),
        (["--data-dir"], ["--data-dir", "expected one argument"]),
        (["--data-dir", ""], ["--data-dir", "''", "not a folder"]),
        (["--output", ""], ["--output", "''", "not a folder"]),
        (["--output", f"{__file__}/x"], ["--output", __file__, "not a folder"]),
        (["--data-dir", __file__], ["--data-dir", __file__, "not a folder"]),
        (["--output", __file__], ["--output", __file__, "not a folder"]),
        (["--output", "a" * 300], ["--output", "aaa", "File name too long"]),
        (["--fresh", "--replot"], ["--replot", "not allowed with argument --fresh"]),
        (["--pre", "quick"], ["--pre", "unrecognized"]),
        (["--seeds", "3"], ["--seeds", "unrecognized"]),
        (["quick"], ["quick", "unrecognized"]),
        (["--ray", ""], ["--ray", "HOST:PORT"]),
    ],
)
def test_a_bad_value_is_one_sentence_and_status_2(argv, named, capsys, monkeypatch):
    monkeypatch.setattr("utils.machine.has_cuda", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        parse_args("doc", argv)
    message = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message.count("\n") == 1 and all(word in message for word in named)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help_prints_the_docstring_and_importing_does_no_work(script, tmp_path):
    module = ".".join(script.relative_to(ROOT).with_suffix("").parts)
    probe = (
        f"import sys, os, {module} as m; sys.stdout.write(str(os.listdir('.')))\n"
        f"try: m.main(['--help'])\nexcept SystemExit as e: assert e.code == 0"
    )
    done = run(sys.executable, "-c", probe, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[]")
    first_line = script.read_text(encoding="utf-8").split('"""')[1].splitlines()[0]
    assert first_line in done.stdout and "--preset" in done.stdout
    assert list(tmp_path.iterdir()) == []
