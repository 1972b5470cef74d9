"""What the tests share: the real data sets where they are on disk, and a folder for everything a test writes."""

import signal

import pytest
import torchvision  # noqa: F401  before TensorFlow: see utils.data._torchvision_datasets

from utils import data
from utils.cli import ROOT, Options

# What a shell starts in the background ignores Ctrl-C, and the scripts that the tests interrupt would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def options(tmp_path):
    """Return options that write below the test's own folder."""
    return Options(output=tmp_path / "out", device="cpu")


@pytest.fixture(scope="session")
def dataset():
    """Return the name of a data set that is on disk: MNIST, or the embedded digits."""
    try:
        data.load("mnist", ROOT / "data", train=True, download=False)
    except data.DataUnavailable:
        return "digits"
    return "mnist"
