"""The networks: the literature's parameter counts and shapes, the order inside a layer, Keras's MiniGoogLeNet."""

import keras_networks
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from coms6998_hw2.models import EVERYWHERE, LeNet5, MiniGoogLeNet, batch_norms


def test_lenet5_layer_by_layer():
    model, x = LeNet5().double(), torch.randn(3, 1, 32, 32, dtype=torch.float64)
    f = torch.nn.functional
    c1, c3, c5, f6, out = model.c1[0], model.c3[0], model.c5[0], model.f6[0], model.output
    y = f.avg_pool2d(torch.tanh(f.conv2d(x, c1.weight, c1.bias)), 2)
    assert y.shape == (3, 6, 14, 14)
    y = f.avg_pool2d(torch.tanh(f.conv2d(y, c3.weight, c3.bias)), 2)
    # C5 as what LeCun calls it, a convolution whose window covers the 5 x 5 maps
    y = torch.tanh(f.conv2d(y, c5.weight.view(120, 16, 5, 5), c5.bias)).flatten(1)
    y = torch.tanh(y @ f6.weight.T + f6.bias)
    torch.testing.assert_close(model(x), y @ out.weight.T + out.bias)


def test_where_batch_norm_and_dropout_stand():
    def kinds(layer):
        return [type(module).__name__.rstrip("12d") for module in layer]

    both = LeNet5(batch_norm=True, dropout=EVERYWHERE)
    first = LeNet5(batch_norm=True, dropout=EVERYWHERE, dropout_first=True)
    assert kinds(both.c1) == ["Conv", "BatchNorm", "Tanh", "AvgPool", "Dropout"]
    assert kinds(both.f6) == ["Linear", "BatchNorm", "Tanh", "Dropout"]
    assert kinds(first.c1) == ["Conv", "Dropout", "BatchNorm", "Tanh", "AvgPool"]
    assert kinds(LeNet5(batch_norm_input=True, dropout=EVERYWHERE).input) == ["BatchNorm", "Dropout"]
    rates = [module.p for module in both.modules() if isinstance(module, nn.Dropout)]
    assert rates == [0.2, 0.5, 0.5, 0.5, 0.5]
    last = LeNet5(batch_norm=True, dropout=["f6"])
    assert kinds(last.f6) == kinds(both.f6)
    assert [module.p for module in last.modules() if isinstance(module, nn.Dropout)] == [0.5]
    of_input = LeNet5(batch_norm=True, dropout=["input"])
    assert [module.p for module in of_input.modules() if isinstance(module, nn.Dropout)] == [0.2]
    assert kinds(of_input.input) == ["Dropout"]
    assert list(batch_norms(LeNet5(batch_norm=True, batch_norm_input=True))) == ["input", "c1", "c3", "c5", "f6"]


def test_mini_googlenets_work_is_the_posts():
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        MiniGoogLeNet().eval()(torch.randn(1, 1, 32, 32))
    assert counter.get_total_flops() == pytest.approx(2 * 232.8e6, rel=5e-4)  # a multiply-add is two


def test_mini_googlenet_is_the_posts_keras_network():
    pytest.importorskip("tensorflow")
    reference = keras_networks.mini_googlenet()
    assert reference.count_params() == 1_654_522  # with the convolutions' biases and the moving statistics

    ours, rng = MiniGoogLeNet().eval(), np.random.default_rng(0)
    theirs = [layer for layer in reference.layers if layer.weights]
    mine = [module for module in ours.modules() if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))]
    # Both list the layers in the order in which they were made, Keras's graph sorted by depth: match them by shape.
    for module in mine:
        kind = {"Conv2d": "Conv2D", "BatchNorm2d": "BatchNormalization", "Linear": "Dense"}[type(module).__name__]
        layer = next(x for x in sorted(theirs, key=_number) if type(x).__name__ == kind)
        theirs.remove(layer)
        with torch.no_grad():
            if kind == "BatchNormalization":
                values = [rng.uniform(0.5, 1.5, module.num_features) for _ in range(4)]
                tensors = (module.weight, module.bias, module.running_mean, module.running_var)
                for tensor, value in zip(tensors, values, strict=True):
                    tensor.copy_(torch.tensor(value))
                layer.set_weights(values)
            else:
                weight = module.weight.numpy()
                kernel = weight.transpose(2, 3, 1, 0) if kind == "Conv2D" else weight.T
                bias = np.zeros(len(weight)) if module.bias is None else module.bias.numpy()
                layer.set_weights([kernel, bias])
    assert not theirs
    images = (rng.normal(size=(4, 32, 32, 1)) + 2 * np.arange(4)[:, None, None, None]).astype("float32")
    with torch.no_grad():
        logits = ours(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
    expected = reference.predict(images, verbose=0)
    told_apart = np.ptp(expected, axis=0)  # by which a class's logit varies from image to image
    assert np.all(np.abs(logits - expected) < 0.01 * told_apart) and told_apart.min() > 1e-3


def _number(layer):
    """Return the number that Keras gave the layer when it was made."""
    digits = layer.name.rsplit("_", 1)[-1]
    return int(digits) if digits.isdigit() else 0
