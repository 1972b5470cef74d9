"""What a trained network's layers tell of co-adaptation, internal covariate shift and variance shift (problem 3).

inputs = inputs_of(trainer, pixels, nn.Tanh)           by layer, (samples, units): what each tanh receives
accuracies = without_units(trainer, pixels, labels, rng)["f6"]    by the share of F6's units that are deleted
"""

import math
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from coms6998_hw2.models import batch_norms
from coms6998_hw2.trainer import Trainer

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of a layer's units that are deleted
DRAWS = 20  # of which ones, for each share
RUNNING = 0.9  # the old value's weight in batch norm's running statistics: PyTorch's default


@torch.no_grad()
def inputs_of(trainer: Trainer, pixels: torch.Tensor, kinds: type | tuple[type, ...]) -> dict[str, torch.Tensor]:
    """Return, by layer, what the modules of some kinds receive in evaluation mode: (samples, units), float64.

    A convolution's maps count each position as a sample.
    """
    inputs, hooks = {}, []
    for layer, part in trainer.model.named_children():
        for module in part.modules():
            if isinstance(module, kinds):

                def keep(_, arguments, layer=layer):
                    x = arguments[0].cpu().double()
                    inputs[layer] = x.transpose(1, -1).flatten(0, -2) if x.ndim == 4 else x

                hooks.append(module.register_forward_pre_hook(keep))
    trainer.model.eval()
    trainer.logits(pixels)
    for hook in hooks:
        hook.remove()
    return inputs


def of_units(trainer: Trainer, trained_on: torch.Tensor, moments: list[dict]) -> dict:
    """Return what questions 3.1 to 3.3 ask of a trained LeNet-5's units, and the learned gamma and beta, by layer.

    `trained_on` (n, 1, h, w): images on which the variance is compared with the running one; `moments`: of the
    activations' inputs after each epoch, as `drift` takes them.
    """
    norms = batch_norms(trainer.model)
    return {
        "drift": drift(moments),
        "deviation_drift": drift(moments, of="deviation"),
        "gamma": {layer: norm.weight.tolist() for layer, norm in norms.items()},
        "beta": {layer: norm.bias.tolist() for layer, norm in norms.items()},
        "variance_shift": variance_shift(trainer, trained_on),
    }


@torch.no_grad()
def without_units(
    trainer: Trainer, pixels: torch.Tensor, labels: torch.Tensor, rng: np.random.Generator
) -> dict[str, list[float]]:
    """Return, for C5 and F6, the accuracy on images (n, 1, h, w) with each of SHARES of the layer's units deleted.

    A deleted unit gives zero. Those kept are divided by their share, as in dropout's training (Srivastava et al. 2014),
    so that the next layer's sums keep their expectation. The mean over DRAWS of the units; NaN where a logit is
    not finite.
    """
    trainer.model.eval()
    f6, output = (trainer.model.get_submodule(name) for name in ("f6", "output"))
    received = inputs_of(trainer, pixels, nn.Linear)  # what a layer gives is what the next one receives
    accuracies: dict[str, list[float]] = {}
    for layer, outputs, rest in (
        ("c5", received["f6"], nn.Sequential(f6, output)),
        ("f6", received["output"], output),
    ):
        units = outputs.shape[1]
        accuracies[layer] = []
        for share in SHARES:
            scores = []
            for _ in range(DRAWS):
                kept = rng.permutation(units)[round(share * units) :]
                factors = torch.zeros(units)
                factors[kept] = units / len(kept)
                logits = rest((outputs.float() * factors).to(trainer.device))
                correct = (logits.argmax(1) == labels).float().mean()
                scores.append(float(correct) if torch.isfinite(logits).all() else math.nan)
            accuracies[layer].append(float(np.mean(scores)))
    return accuracies


def drift(moments: list[dict], of: str = "mean") -> dict[str, list[float]]:
    """Return, by layer and from epoch to epoch, the mean over units of |change of the mean| / standard deviation.

    `moments`: for each epoch, by layer, the means and standard deviations (units,) of what the activation receives;
    `of`: "mean", or "deviation" for |change of the standard deviation| / standard deviation.
    """
    changes: dict[str, list[float]] = {layer: [] for layer in moments[0]}
    for before, after in pairwise(moments):
        for layer, (old_mean, old_deviation) in before.items():
            new_mean, new_deviation = after[layer]
            change = new_mean - old_mean if of == "mean" else new_deviation - old_deviation
            changes[layer].append(float((change.abs() / old_deviation.clamp(min=1e-12)).mean()))
    return changes


def noise_of_running_mean(batch_size: int) -> float:
    """Return the drift that batch norm's running mean has by itself, from an epoch to the next, at fixed weights.

    A running mean with weight m on the old value has the variance (1 - m) / (1 + m) / batch_size of one independent
    sample; two of them, an epoch apart, are independent, and their difference is normal.
    """
    return math.sqrt(2 / math.pi * 2 * (1 - RUNNING) / (1 + RUNNING) / batch_size)


def variance_shift(trainer: Trainer, pixels: torch.Tensor) -> dict[str, float]:
    """Return, by layer, the mean over units of the variance that a batch norm receives over its running variance."""
    norms = batch_norms(trainer.model)
    shifts = {}
    for layer, x in inputs_of(trainer, pixels, (nn.BatchNorm1d, nn.BatchNorm2d)).items():
        running = norms[layer].get_buffer("running_var").cpu().double()
        shifts[layer] = float((x.var(0) / running).mean())
    return shifts
