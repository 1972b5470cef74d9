"""The command line that every script shares: `options = parse_args(__doc__, argv)`."""

import argparse
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from utils import machine

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Options:
    """How to run a script and where its results go; nothing here changes what a config computes."""

    preset: str = "full"
    fresh: bool = False
    replot: bool = False
    device: str = "auto"
    data_dir: Path = ROOT / "data"
    output: Path | None = None
    dataset: str | None = None  # in scripts that offer several
    ray: str | None = None  # the address of a Ray cluster, or "local"
    figures: bool = True  # in report/build.py: draw them, too

    @property
    def results_dir(self) -> Path:
        """Folder of the summaries (<stem>.json) and of the records (<stem>/<name>.json)."""
        return self._folder(full=ROOT / "report" / "results", name="results")

    @property
    def figures_dir(self) -> Path:
        """Folder of the figures."""
        return self._folder(full=ROOT / "figures", name="figures")

    def _folder(self, full: Path, name: str) -> Path:
        if self.output is not None:
            return self.output / name
        return full if self.preset == "full" else ROOT / "build" / "quick" / name


DEFAULTS = Options()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def parse_args(doc: str, argv: list[str] | None = None, datasets: tuple[str, ...] = (), runs: bool = True) -> Options:
    """Return the options in `argv` (default: the process's own); `doc` is the script's docstring, shown by --help.

    A script that works on several `datasets` has the flag --dataset too, which by default is the first of them. Without
    `runs` nothing is run: there are no flags that say how, but one to leave the figures as they are.
    A flag or value that does not exist prints one sentence and exits with status 2 before anything is written.
    """
    parser = _Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    presets = "full: the assignment's protocol, into report/ and figures/; quick: the same on less, into build/quick/"
    add("--preset", choices=("quick", "full"), default="full", help=presets)
    if runs:
        again = parser.add_mutually_exclusive_group()
        again.add_argument("--fresh", action="store_true", help="run again even where a valid record exists")
        again.add_argument("--replot", action="store_true", help="only draw and summarise what is recorded")
        device_help = "where to compute (default: on a GPU if there is one; p1_* and p4_1 always compute on the CPU)"
        add("--device", choices=("auto", "cpu", "cuda"), default="auto", help=device_help)
        ray_help = "spread the runs over the Ray cluster there (without an address: one started on this machine)"
        add("--ray", nargs="?", const="local", metavar="ADDRESS", help=ray_help)
    else:
        add("--no-figures", action="store_false", dest="figures", help="leave figures and summaries as they are")
    add("--data-dir", type=_folder_path, default=ROOT / "data", metavar="DIR", help="the data sets (default: data/)")
    add("--output", type=_folder_path, metavar="DIR", help="read and write results/ and figures/ here instead")
    if datasets:
        add("--dataset", choices=datasets, default=datasets[0], help="the images (default: %(default)s)")
    options = Options(**vars(parser.parse_args(argv)))
    if options.ray == "":
        parser.error("argument --ray: '' is no address (choose HOST:PORT, or leave it out for a cluster started here)")
    if options.ray is not None and importlib.util.find_spec("ray") is None:
        parser.error("argument --ray: Ray is not installed; install it with: make ray")
    if options.ray is None and options.device == "cuda" and not machine.has_cuda():
        parser.error("argument --device: invalid choice: 'cuda' is not on this machine (choose from auto, cpu)")
    return options


def _folder_path(text: str) -> Path:
    """Return the absolute path of a folder that is there or can be made; a worker may run in another folder."""
    text = os.path.expanduser(text)
    if text.startswith("~"):
        raise argparse.ArgumentTypeError(f"{text!r} is nobody's home folder (choose a folder, or a path to make one)")
    folder = Path(text).absolute()
    try:
        usable = text and next(path for path in (folder, *folder.parents) if path.exists()).is_dir()
    except OSError as error:  # a name too long, a link to itself
        message = f"{text!r} cannot be used ({error.strerror}; choose another folder)"
        raise argparse.ArgumentTypeError(message) from error
    if not usable:
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder (choose a folder, or a path to make one)")
    return folder
