"""The two networks of problems 3 and 4.

LeNet5(batch_norm=True, dropout=EVERYWHERE)(images)    images (n, 1, 32, 32) -> logits (n, 10)
MiniGoogLeNet()(images)                          the same shapes
"""

from collections.abc import Collection

import torch
from torch import nn

LENET5_PARAMETERS = 61_706  # LeCun et al. (1998), with C3 connected to every map of S2 and subsampling without weights
MINI_GOOGLENET_PARAMETERS = 1_649_386  # the post's, without the convolutions' biases: BN takes them out again
INPUT_RATE, HIDDEN_RATE = 0.2, 0.5  # dropout's probabilities in question 3.4
EVERYWHERE = ("input", "c1", "c3", "c5", "f6")  # the layers of LeNet-5 that may have dropout
# Keras's defaults, which the post uses; momentum is the weight of the old value, torch's that of the new one.
KERAS_EPS, KERAS_MOMENTUM = 1e-3, 0.99


class LeNet5(nn.Module):
    """LeNet-5 (LeCun et al. 1998): 32 x 32 input, tanh, average pooling.

    A hidden layer is convolution or affine -> batch norm -> tanh -> average pooling -> dropout, as far as each is
    there. Batch norm stands before the activation, where Ioffe and Szegedy (2015) put it; dropout after it, on the
    units' outputs, as Srivastava et al. (2014) define it, of the layers that `dropout` names. With `dropout_first` it
    comes right before batch norm.
    """

    def __init__(
        self,
        *,
        batch_norm: bool = False,
        batch_norm_input: bool = False,
        dropout: Collection[str] = (),
        dropout_first: bool = False,
    ):
        """Build the layers and draw Glorot's weights."""
        super().__init__()

        def hidden(layer, linear, norm, after):
            drop = [nn.Dropout(HIDDEN_RATE)] if layer in dropout else []
            norm = [norm] if batch_norm else []
            if dropout_first:
                return nn.Sequential(linear, *drop, *norm, nn.Tanh(), *after)
            return nn.Sequential(linear, *norm, nn.Tanh(), *after, *drop)

        self.input = nn.Sequential(
            *([nn.BatchNorm2d(1)] if batch_norm_input else []),
            *([nn.Dropout(INPUT_RATE)] if "input" in dropout else []),
        )
        self.c1 = hidden("c1", nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6), [nn.AvgPool2d(2)])  # -> (6, 14, 14)
        self.c3 = hidden("c3", nn.Conv2d(6, 16, 5), nn.BatchNorm2d(16), [nn.AvgPool2d(2), nn.Flatten()])  # -> (400,)
        self.c5 = hidden("c5", nn.Linear(400, 120), nn.BatchNorm1d(120), [])  # a 5 x 5 convolution of 5 x 5 maps
        self.f6 = hidden("f6", nn.Linear(120, 84), nn.BatchNorm1d(84), [])
        self.output = nn.Linear(84, 10)
        _draw_weights(self, nn.init.xavier_normal_)
        _check_size(self, LENET5_PARAMETERS, without=(nn.BatchNorm1d, nn.BatchNorm2d))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits (n, 10) of images (n, 1, 32, 32)."""
        return self.output(self.f6(self.c5(self.c3(self.c1(self.input(images))))))


class MiniGoogLeNet(nn.Module):
    """The small Inception network of Zhang et al. (2017, figure 3), as in Rosebrock's posts of 2019."""

    def __init__(self, share: float = 1.0):
        """Build the layers, with a share of the filters, and draw Glorot's uniform weights, as Keras does."""
        super().__init__()

        def filters(number):
            return round(share * number)

        stages = [_convolution(1, filters(96), 3)]
        channels = filters(96)
        for kind, *numbers in (
            (_Inception, 32, 32),
            (_Inception, 32, 48),
            (_Downsample, 80),
            (_Inception, 112, 48),
            (_Inception, 96, 64),
            (_Inception, 80, 80),
            (_Inception, 48, 96),
            (_Downsample, 96),
            (_Inception, 176, 160),
            (_Inception, 176, 160),
        ):
            stage = kind(channels, *map(filters, numbers))
            stages.append(stage)
            channels = stage.channels
        self.stages = nn.Sequential(*stages, nn.AvgPool2d(7), nn.Flatten(), nn.Dropout(0.5), nn.Linear(channels, 10))
        _draw_weights(self, nn.init.xavier_uniform_)
        if share == 1:
            _check_size(self, MINI_GOOGLENET_PARAMETERS)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits (n, 10) of images (n, 1, 32, 32)."""
        return self.stages(images)


def batch_norms(model: nn.Module) -> dict[str, nn.BatchNorm1d | nn.BatchNorm2d]:
    """Return LeNet-5's batch norms by the name of their layer: input, c1, c3, c5, f6, as far as they are there."""
    norms = {}
    for layer, part in model.named_children():
        for module in part.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                norms[layer] = module
    return norms


def _convolution(channels, filters, size, stride=1, padding="same"):
    """Return convolution -> batch norm -> ReLU: the post's conv_module."""
    return nn.Sequential(
        nn.Conv2d(channels, filters, size, stride, padding=padding, bias=False),
        nn.BatchNorm2d(filters, eps=KERAS_EPS, momentum=1 - KERAS_MOMENTUM),
        nn.ReLU(inplace=True),
    )


class _Inception(nn.Module):
    """A 1x1 and a 3x3 convolution of the same input, their channels one after the other."""

    def __init__(self, channels, filters_1x1, filters_3x3):
        super().__init__()
        self.one, self.three = _convolution(channels, filters_1x1, 1), _convolution(channels, filters_3x3, 3)
        self.channels = filters_1x1 + filters_3x3  # that it gives

    def forward(self, x):
        return torch.cat((self.one(x), self.three(x)), dim=1)


class _Downsample(nn.Module):
    """A 3x3 convolution and a 3x3 max-pooling, stride 2 and no padding, their channels one after the other."""

    def __init__(self, channels, filters):
        super().__init__()
        self.convolution = _convolution(channels, filters, 3, stride=2, padding=0)
        self.pool = nn.MaxPool2d(3, 2)
        self.channels = filters + channels

    def forward(self, x):
        return torch.cat((self.convolution(x), self.pool(x)), dim=1)


def _draw_weights(model, initialize):
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            initialize(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _check_size(model, expected, without=()):
    counted = [module for module in model.modules() if not isinstance(module, without)]
    size = sum(parameter.numel() for module in counted for parameter in module.parameters(recurse=False))
    assert size == expected, f"{type(model).__name__} has {size:,} parameters, not {expected:,}"
