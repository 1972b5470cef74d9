"""What a layer's inputs tell of co-adaptation, of internal covariate shift and of the variance shift (problem 3).

inputs = inputs_of(trainer, pixels, nn.Tanh)    by layer, (samples, units): what each tanh receives
"""

import math
from itertools import pairwise

import torch
from torch import nn

from utils.training import Trainer


@torch.no_grad()
def inputs_of(trainer: Trainer, pixels: torch.Tensor, kinds: type | tuple[type, ...]) -> dict[str, torch.Tensor]:
    """Return, by layer, what the modules of some kinds receive in evaluation mode: (samples, units), float64.

    A convolution's maps count each position as a sample.
    """
    found, hooks = {}, []
    for layer, part in trainer.model.named_children():
        for module in part.modules():
            if isinstance(module, kinds):

                def keep(_, inputs, layer=layer):
                    x = inputs[0].cpu().double()
                    found[layer] = x.transpose(1, -1).flatten(0, -2) if x.ndim == 4 else x

                hooks.append(module.register_forward_pre_hook(keep))
    trainer.model.eval()
    trainer.logits(pixels)
    for hook in hooks:
        hook.remove()
    return found


def drift(statistics: list[dict], of: str = "mean") -> dict[str, list[float]]:
    """Return, by layer and from epoch to epoch, the mean over units of |change of the mean| / standard deviation.

    `statistics`: for each epoch, by layer, the means and standard deviations (units,) of what the activation receives;
    `of`: "mean", or "deviation" for |change of the standard deviation| / standard deviation.
    """
    moment = ("mean", "deviation").index(of)
    return {
        layer: [
            float(((after[layer][moment] - before[layer][moment]).abs() / before[layer][1].clamp(min=1e-12)).mean())
            for before, after in pairwise(statistics)
        ]
        for layer in statistics[0]
    }


def noise_of_running_mean(batch_size: int, momentum: float = 0.9) -> float:
    """Return the drift that batch norm's running mean has by itself, from an epoch to the next, at fixed weights.

    A running mean with weight `momentum` on the old value has the variance (1 - momentum) / (1 + momentum) / batch_size
    of one independent sample; two of them, an epoch apart, are independent, and their difference is normal.
    """
    return math.sqrt(2 / math.pi * 2 * (1 - momentum) / (1 + momentum) / batch_size)


def co_adaptation(activations: torch.Tensor) -> float:
    """Return the mean absolute correlation between two different units of activations (samples, units)."""
    varying = activations[:, activations.std(0) > 0]
    correlations = torch.corrcoef(varying.T).abs()
    return float((correlations.sum() - correlations.trace()) / (correlations.numel() - len(correlations)))


def variance_shift(trainer: Trainer, pixels: torch.Tensor) -> dict[str, float]:
    """Return, by layer, the mean over units of the variance that a batch norm receives over its running variance."""
    norms = trainer.model.batch_norms()
    return {
        layer: float((x.var(0) / norms[layer].running_var.cpu().double()).mean())
        for layer, x in inputs_of(trainer, pixels, (nn.BatchNorm1d, nn.BatchNorm2d)).items()
    }
