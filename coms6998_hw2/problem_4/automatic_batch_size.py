"""Question 4.5: an algorithm that determines b_min and b_max, its functions in the order of the block diagram.

    test = growing_batch_test(training, config)                 train while the batch grows with the images seen
    stop = falling_behind(...)                                  the batch from which on it is behind the smallest one
    lengths = gradient_lengths(training, config)                of small and of large batches, after each epoch
    noise = noise_scale(...)                                    the batch whose gradient's noise equals the gradient
    b_min, b_max = automatic_range(stop, noise, 64, 8192)       both as powers of two

The gradient noise scale is McCandlish et al.'s (2018, arXiv 1812.06162). If the rate is as large as each batch allows,
twice a much smaller batch saves nearly half of the updates, and twice a much larger one hardly any.
"""

import math

import numpy as np
import torch
from numpy.typing import ArrayLike

from coms6998_hw2.problem_4.batch_policies import asked_sizes, sizes_by_epoch
from coms6998_hw2.problem_4.training_run import Training

WINDOWS = 20  # equal parts of the images seen, in which two runs are compared: a quarter of an epoch of five
BEHIND = 0.05  # of the loss's whole fall: the range rule's threshold, too
LEAST_FALL = 0.05  # of where it starts: less is noise
BIG_PARTS = 16  # micro-batches in the large batch of the noise scale: 1,024 images, near the middle of 64 to 8,192


def growing_batch_test(training: Training, config: dict) -> dict:
    """Train while the batch grows exponentially with the images seen; return "sizes" and "losses" of each update.

    config: "smallest" and "largest" batch, "micro_batch", "learning_rate" (fixed), "epochs". Sizes are multiples of the
    micro-batch. "asked": the sizes of the policy, of which an epoch's last batch may be what was left.
    """
    images, epochs = len(training.training_indices), config["epochs"]
    growth = math.log(config["largest"] / config["smallest"]) / (images * epochs)

    def policy(samples):
        # Geometric in the samples seen: each doubling takes as many samples as the one before.
        size = config["smallest"] * math.exp(growth * samples)
        return max(1, round(size / config["micro_batch"])) * config["micro_batch"]

    sizes = sizes_by_epoch(policy, images, epochs)
    losses = [training.epoch(epoch, np.full(len(epoch), config["learning_rate"])) for epoch in sizes]
    return {
        "sizes": np.concatenate(sizes),
        "asked": np.concatenate(asked_sizes(policy, sizes)),
        "losses": np.concatenate(losses),
    }


def falling_behind(
    sizes: ArrayLike,
    losses: ArrayLike,
    asked: ArrayLike,
    constant_sizes: ArrayLike,
    constant_losses: ArrayLike,
    windows: int = WINDOWS,
) -> float:
    """Return the batch size from which on a run with growing batches falls behind one with a constant small batch.

    sizes, losses (updates,) of each run; asked (updates,): the growing run's sizes as planned. Both runs see the same
    number of samples, which are cut in `windows` equal parts: behind is, in all that follow, a mean loss that is higher
    by more than 5% of the whole fall of the constant run (or of 5% of its start), or no number (diverged). Returns the
    largest size asked for where that never happens. Raises ValueError where the constant run itself diverged.
    """
    ends = np.linspace(0, min(np.sum(sizes), np.sum(constant_sizes)), windows + 1)
    growing, constant = windowed(sizes, losses, ends), windowed(constant_sizes, constant_losses, ends)
    if not np.all(np.isfinite(constant)):
        raise ValueError("the run with the smallest batch diverged: there is nothing to fall behind")
    fall = max(constant[0] - constant.min(), LEAST_FALL * constant[0])
    behind = ~(growing - constant <= BEHIND * fall)  # NaN is behind
    ahead = np.flatnonzero(~behind)
    first = ahead[-1] + 1 if len(ahead) else 0
    if first == windows:
        return float(np.max(asked))
    return float(np.asarray(asked)[np.searchsorted(np.cumsum(sizes), ends[first], side="right")])


def windowed(sizes: ArrayLike, losses: ArrayLike, ends: np.ndarray) -> np.ndarray:
    """Return the mean loss (windows,) of the samples between one end and the next; sizes, losses (updates,)."""
    seen = np.concatenate([[0], np.cumsum(sizes)])
    total = np.concatenate([[0], np.cumsum(np.asarray(sizes) * np.asarray(losses, float))])
    return np.diff(np.interp(ends, seen, total)) / np.diff(ends)


def gradient_lengths(training: Training, config: dict) -> dict:
    """Return the squared lengths of gradients: "small", of micro-batches (the mean of 16), and "big", of all together.

    config: "micro_batch", "steps" (how many of each), "seed" of the images drawn. "b_small", "b_big": the two batch
    sizes. The network's running statistics are left as they were.
    """
    trainer, rng, size = training.trainer, np.random.default_rng([config["seed"], 2]), config["micro_batch"]
    buffers = {name: value.clone() for name, value in trainer.model.named_buffers()}
    parts = min(BIG_PARTS, len(training.training_indices) // size)
    lengths: dict = {"small": [], "big": [], "b_small": size, "b_big": parts * size}
    for _ in range(config["steps"]):
        drawn = torch.as_tensor(rng.choice(training.training_indices, parts * size, replace=False))
        total, small = torch.zeros(()), []
        for part in drawn.split(size):
            gradient = trainer.gradient(training.pixels, training.labels, part)
            small.append(float(gradient.square().sum()))
            total = total.to(gradient.device) + gradient
        lengths["small"].append(np.mean(small))
        lengths["big"].append(float((total / parts).square().sum()))
    with torch.no_grad():
        for name, value in trainer.model.named_buffers():
            value.copy_(buffers[name])
    return lengths


def estimates(small: ArrayLike, big: ArrayLike, b_small: int, b_big: int) -> tuple[np.ndarray, np.ndarray]:
    """Return unbiased estimates (steps,) of the gradient's squared length and of its noise's, tr(covariance).

    small, big (steps,): mean squared lengths of the gradients of batches of b_small and of b_big (appendix A.1).
    Raises ValueError unless 0 < b_small < b_big, and for lengths that are not finite or not one of each for every step.
    """
    if not 0 < b_small < b_big:
        raise ValueError(f"the batches are {b_small} and {b_big}; the first must be the smaller, and positive")
    small, big = np.asarray(small, float), np.asarray(big, float)
    if small.shape != big.shape or small.size == 0 or not np.all(np.isfinite([small, big])):
        raise ValueError(f"the gradients' squared lengths must be finite, one of each a step; got {small} and {big}")
    signal = (b_big * big - b_small * small) / (b_big - b_small)
    noise = (small - big) / (1 / b_small - 1 / b_big)
    return signal, noise


def noise_scale(small: ArrayLike, big: ArrayLike, b_small: int, b_big: int) -> float:
    """Return the noise scale, the mean noise over the mean signal; infinite where the signal is not positive.

    small, big (steps,), b_small, b_big: see `estimates`. Averaged separately, divided last: a mean of ratios would be
    biased.
    """
    signal, noise = estimates(small, big, b_small, b_big)
    return float(noise.mean() / signal.mean()) if signal.mean() > 0 else math.inf


def power_of_two(batch_size: float, smallest: int, largest: int) -> int:
    """Return the power of two that is nearest in the logarithm, between smallest and largest (powers of two)."""
    return 2 ** round(math.log2(min(max(batch_size, smallest), largest)))


def automatic_range(stop: float, noise: float, smallest: int, largest: int) -> tuple[int, int]:
    """Return (b_min, b_max), powers of two between smallest and largest.

    b_min is the last one below `stop`, where a growing batch falls behind the smallest one: up to b_min a larger batch
    has not been seen to lose. b_max is the one nearest to the noise scale late in training: far beyond it a larger
    batch hardly gains. b_min never exceeds b_max. Raises ValueError for smallest > largest.
    """
    if not 1 <= smallest <= largest:
        raise ValueError(f"the batch may go from {smallest} to {largest}; it needs 1 <= smallest <= largest")
    high = power_of_two(noise, smallest, largest)
    stop = round(stop)  # a mean of sizes that are whole: 128, not a hair above it
    below = stop if stop >= largest else 2 ** (math.ceil(math.log2(max(stop, 1))) - 1)
    return min(power_of_two(below, smallest, largest), high), high
