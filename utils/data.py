"""Data sets as NumPy arrays: `images, labels = load("mnist", data_dir, train=True)`, and a stratified `split`."""

import contextlib
import functools
import gzip
import hashlib
import http.client
import io
import os
import sys
import urllib.request
from pathlib import Path

import numpy as np

from utils.cli import ROOT, Options
from utils.files import warn

SIZES = {  # images of each part
    "mnist": {"train": 60_000, "test": 10_000},
    "fashion_mnist": {"train": 60_000, "test": 10_000},
    "cifar10": {"train": 50_000, "test": 10_000},
    "digits": {"train": 1437, "test": 360},
}
NAMES = tuple(SIZES)
VALIDATION, SPLIT_SEED = 5000, 0  # of the one split that all scripts, variants and seeds share
BESIDE = "../shared/data"  # seen from the checkout: where data sets are looked for that are not in the data folder
TIMEOUT = 10  # seconds to wait for a mirror that does not answer
# torchvision's names and MD5 sums. They stand here so that reading needs no torchvision, which takes seconds to import.
FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
MD5_SUMS = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
}


class DataUnavailable(Exception):
    """A data set is neither on disk nor to be had from its mirrors."""


class UnusableFile(Exception):
    """A file or folder is there and cannot be used: its MD5 sum is another one, say, or nobody may read it."""


def load(
    name: str, data_dir: Path, train: bool, download: bool = True, first: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 (n, h, w[, 3]) and labels int64 (n,), read-only, of the training or the test part.

    With `first`, only the first so many of them. Missing archives come from the mirrors that torchvision names (unless
    `download` is false), and every archive is checked against torchvision's MD5 sums before it is read. `digits` are
    scikit-learn's, resized to 28 x 28.
    Raises ValueError for an unknown name, DataUnavailable, and UnusableFile; a damaged file is never overwritten.
    """
    if name not in NAMES:
        raise ValueError(f"data set {name!r} is unknown; choose from {', '.join(NAMES)}")
    images, labels = _load(name, Path(data_dir).absolute(), train, download)
    return images[:first], labels[:first]


@functools.lru_cache(maxsize=4)
def _load(name, data_dir, train, download):
    if name == "digits":
        images, labels = _digits(train)
    elif name == "cifar10":
        images, labels = _cifar10(data_dir, train, download)
    else:
        images, labels = _idx(name, data_dir, train, download)
    labels = labels.astype(np.int64)
    images.flags.writeable = labels.flags.writeable = False
    return images, labels


def split(labels: np.ndarray, validation: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted indices (training, validation) of a stratified split with `validation` examples held out.

    Raises ValueError (from scikit-learn) where a class would be left without an example.
    """
    from sklearn.model_selection import train_test_split

    indices = np.arange(len(labels))
    training, held = train_test_split(indices, test_size=validation, stratify=labels, random_state=seed)
    return np.sort(training), np.sort(held)


def validation_size(images: int) -> int:
    """Return how many of so many training images are kept for validation: 5,000, or a tenth if that is fewer."""
    return min(VALIDATION, images // 10)


def hold_out(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted indices (training, validation) of the split that all scripts and seeds share."""
    return split(labels, validation_size(len(labels)), SPLIT_SEED)


def resolve(configs: list[dict], options: Options) -> list[dict]:
    """Return the configs, each data set replaced by one that can be loaded: itself or, on quick, the embedded digits.

    Where a data set cannot be had, the full preset ends with one message and status 1; the quick preset says so and
    goes on with `digits`, which the configs then name. A damaged file ends both. Drawing alone needs no data. Configs
    without a data set stay as they are.
    """
    names = sorted({config["dataset"] for config in configs if "dataset" in config})
    usable = {name: usable_name(name, options) for name in names}
    return [{**config, "dataset": usable[config["dataset"]]} if "dataset" in config else config for config in configs]


def usable_name(name: str, options: Options) -> str:
    """Return the data set that stands for `name` in this run, as `resolve` does for configs."""
    if options.replot and options.preset == "full":
        return name
    return _usable(name, options.data_dir, options.preset, options.replot)


@functools.cache  # one answer for all runs of a process
def _usable(name: str, data_dir: Path, preset: str, replot: bool) -> str:
    try:
        load(name, data_dir, train=True, download=not replot)
        load(name, data_dir, train=False, download=not replot)
    except UnusableFile as error:
        sys.exit(str(error))
    except DataUnavailable as error:
        if preset == "full":
            sys.exit(str(error))
        warn(f"WARNING: {error}\nWARNING: going on with the embedded digits instead of {name}.")
        return "digits"
    return name


def _digits(train):
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    enlarged = zoom(digits.images, (1, 3.5, 3.5), order=1)  # 8 x 8 -> 28 x 28, values 0 to 16
    images = np.rint(enlarged * (255 / 16)).clip(0, 255).astype(np.uint8)
    parts = train_test_split(np.arange(len(images)), test_size=0.2, stratify=digits.target, random_state=0)
    indices = np.sort(parts[0] if train else parts[1])
    return images[indices], digits.target[indices]


def _idx(name, data_dir, train, download):
    folder = Path(FOLDERS[name]) / "raw"
    prefix = "train" if train else "t10k"
    arrays = []
    for kind, header in (("images-idx3", 16), ("labels-idx1", 8)):
        archive = f"{prefix}-{kind}-ubyte.gz"
        path = _found(data_dir, folder / archive)
        content = gzip.decompress(_verified(name, path, MD5_SUMS[name][archive], download))
        arrays.append(np.frombuffer(content, np.uint8, offset=header))
    images, labels = arrays
    return images.reshape(-1, 28, 28), labels


def _found(data_dir: Path, archive: Path) -> Path:
    """Return the archive's path in the data folder or, if it is only there, in the folder that DATA_SOURCE names.

    That one, by default shared/data beside this checkout, is only read; empty, there is none.
    """
    source = os.environ.get("DATA_SOURCE", BESIDE)
    if not source or _is_there(data_dir / archive):
        return data_dir / archive
    folder = ROOT / os.path.expanduser(source)
    if source != BESIDE and not folder.is_dir():
        raise UnusableFile(
            f"DATA_SOURCE={source} is not a folder; name one that has MNIST/ and FashionMNIST/, or none."
        )
    return folder / archive if _is_there(folder / archive) else data_dir / archive


def _is_there(path: Path) -> bool:
    """Return whether something lies at the path; raises UnusableFile where one may not look."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UnusableFile(f"{path} cannot be read ({error.strerror}); make it readable.") from error
    return True


def _cifar10(data_dir, train, download):
    CIFAR10 = _torchvision_datasets().CIFAR10
    _verified("cifar10", data_dir / CIFAR10.filename, CIFAR10.tgz_md5, download)
    batches = data_dir / CIFAR10.base_folder
    for file, md5 in [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]:
        if os.path.lexists(batches / file):
            _read_verified(batches / file, md5)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            dataset = CIFAR10(data_dir, train=train, download=True)  # unpacks; the archive is there, so no network
    except OSError as error:
        raise DataUnavailable(
            f"cifar10's archive cannot be unpacked in {data_dir} ({error.strerror}). "
            "Make the folder writable, or name another data folder with --data-dir."
        ) from error
    return dataset.data, np.array(dataset.targets)


def _torchvision_datasets():
    """Import torchvision.datasets, without triton where TensorFlow is loaded.

    Both TensorFlow and triton, which torch imports if it is there, bring an LLVM of their own, and the process aborts
    when triton's comes second ("inconsistency in registered CommandLine options"). Nothing here needs triton.
    """
    if "tensorflow" in sys.modules:
        sys.modules.setdefault("triton", None)  # type: ignore[arg-type]  # None: not to be imported
    import torchvision.datasets

    return torchvision.datasets


def _verified(name: str, path: Path, md5: str, download: bool) -> bytes:
    """Return the bytes of the archive `path`, after downloading it if it is missing."""
    if not _is_there(path):
        _download(name, path, md5, _mirrors(name) if download else [])
    return _read_verified(path, md5)


def _mirrors(name: str) -> list[str]:
    """Return the addresses before a data set's archives that torchvision names."""
    datasets = _torchvision_datasets()
    if name == "cifar10":
        return [datasets.CIFAR10.url.removesuffix(datasets.CIFAR10.filename)]
    return getattr(datasets, FOLDERS[name]).mirrors


def _read_verified(path: Path, md5: str) -> bytes:
    if not path.is_file():  # a folder, a pipe, a link that leads nowhere
        raise UnusableFile(f"{path} is no file; remove it and put the original there.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnusableFile(f"{path} cannot be read ({error.strerror}); make it readable.") from error
    if _md5(content) != md5:
        raise UnusableFile(
            f"{path} is damaged: its MD5 sum is not {md5}; it was neither used nor changed. "
            f"Remove it, and it will be downloaded again, or put the original there."
        )
    return content


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _download(name, path, md5, mirrors):
    tried = []
    for mirror in mirrors:
        try:
            with urllib.request.urlopen(mirror + path.name, timeout=TIMEOUT) as answer:
                content = answer.read()
            if _md5(content) != md5:
                raise OSError("what it sends has another MD5 sum")
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.{os.getpid()}")
            partial.write_bytes(content)
            os.replace(partial, path)
            return
        except (OSError, ValueError, http.client.HTTPException) as error:
            tried.append(f"{mirror}: {type(error).__name__}: {' '.join(str(error).split())}")
    raise DataUnavailable(
        f"{name} is not at {path} and could not be downloaded ({'; '.join(tried) or 'not tried'}). "
        f"Put its archives (data/README.md lists them) into {path.parent}, or name another data folder with --data-dir."
    )
