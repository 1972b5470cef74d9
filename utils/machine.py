"""What this machine can do at once: its cores, a GPU or none, how many runs fill it, TensorFlow on one thread.

machine.torch_device(options.device)      where to compute
machine.workers(options.device)           how many runs to do at a time
machine.cpu_kind()                        whose rounding a run has
"""

import os
import platform
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

RUNS_ON_A_GPU = 4  # small networks, which do not fill it alone: one hides what another does on the CPU
GPU_SHARE = 1 / RUNS_ON_A_GPU


def cores() -> int:
    """Return how many CPU cores this process may use: fewer than the machine has, where someone says so.

    loky knows the affinity and a container's quota (cgroup v1 and v2); Slurm says how many CPUs a task has.
    """
    if not os.environ.get("LOKY_MAX_CPU_COUNT", "1").isdecimal():
        del os.environ["LOKY_MAX_CPU_COUNT"]  # it would raise an error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib's of a /dev/shm that cannot be written: the sweep says it itself
        from joblib.externals import loky
    allowed = loky.cpu_count()
    of_slurm = re.match(r"\s*([0-9]+)", os.environ.get("SLURM_CPUS_PER_TASK", ""))  # "4(x2)" too
    return min(allowed, int(of_slurm[1])) if of_slurm and int(of_slurm[1]) > 0 else allowed


def cpu_kind() -> str:
    """Return what decides a run's last bits: the CPU's model and the widest instructions that libraries use on it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return platform.processor() or platform.machine()
    about = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    about = {key.strip(): value.strip() for key, value in about.items()}
    flags = about.get("flags", "").split()
    widest = [name for name in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if name in flags]
    part = f"{platform.machine()} {about.get('CPU implementer', '')} {about.get('CPU part', '')}".strip()  # on Arm
    return ", ".join([about.get("model name", part), *widest[:1]])


def has_cuda() -> bool:
    """Return whether torch can compute on a GPU here."""
    import torch

    return torch.cuda.is_available()


def torch_device(name: str) -> "torch.device":
    """Return the device that --device names: with "auto" a GPU if there is one."""
    import torch

    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if has_cuda() else "cpu")


def workers(device: str) -> int:
    """Return how many runs of one thread fill the cores or, on a GPU, how many small networks fill it."""
    return RUNS_ON_A_GPU if torch_device(device).type == "cuda" else cores()


def one_thread_each() -> None:
    """Let TensorFlow compute on one thread, on the CPU: the sweep uses the other cores, and sums do not depend on them.

    To be called before it computes anything; raises its RuntimeError where it has already started with more.
    """
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        if tf.config.threading.get_intra_op_parallelism_threads() != 1:
            raise
    tf.config.set_visible_devices([], "GPU")
