"""Question 2.1: the layers' statistics against closed forms, quadrature, autograd and simulation."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats

from coms6998_hw2.p2_1_vanishing_gradients import (
    DEEP,
    DEVIATIONS,
    measure,
    summarise,
    theory,
    theory_by_deviation,
    train,
    varying,
)
from coms6998_hw2.problem_2.deep_network import (
    DEPTH,
    build,
    forward,
    gaussian_moments,
    predict_variance,
    standard_deviation,
)


def test_standard_deviations_are_the_papers():
    assert standard_deviation("glorot", 100, 100) == pytest.approx(0.1)
    assert standard_deviation("he", 100, 50) == pytest.approx(0.1414, abs=1e-4)
    assert standard_deviation("glorot", 784, 100) == pytest.approx(np.sqrt(2 / 884))
    assert standard_deviation("0.28", 1, 1) == 0.28


def test_layers_are_drawn_independently_with_zero_bias():
    layers = build(784, "0.28", seed=0)
    assert [layer.weight.shape[0] for layer in layers] == [100] * 6 + [10]
    assert all((layer.bias == 0).all() for layer in layers)
    for layer in layers:
        assert layer.weight.std().item() == pytest.approx(0.28, rel=0.1)
    a, b = (layers[i].weight.flatten().numpy(force=True) for i in (2, 3))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.05


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu"])
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_gaussian_moments_against_adaptive_quadrature(activation, scale):
    square, slope = (moment[0] for moment in gaussian_moments(activation, np.array([scale])))
    f = {"tanh": np.tanh, "sigmoid": lambda u: 1 / (1 + np.exp(-u)), "relu": lambda u: np.maximum(u, 0)}[activation]
    derivative = {
        "tanh": lambda u: 1 / np.cosh(u) ** 2,
        "sigmoid": lambda u: 0.25 / np.cosh(u / 2) ** 2,
        "relu": lambda u: float(u > 0),
    }[activation]
    for value, g in ((square, f), (slope, derivative)):
        expected = sum(
            integrate.quad(lambda z, g=g: stats.norm.pdf(z) * g(scale * z) ** 2, *ends, epsabs=1e-12)[0]
            for ends in ((-9, -0.5), (-0.5, 0), (0, 0.5), (0.5, 9))
        )
        assert value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu"])
@pytest.mark.parametrize("scheme", ["0.01", "glorot", "0.1"])
def test_mean_field_theory_within_the_spread_of_seeds_at_width_1000(activation, scheme):
    x = torch.rand(200, 784, generator=torch.Generator().manual_seed(9)) * torch.linspace(0.2, 1, 200)[:, None]
    y = torch.arange(200) % 10
    measured = [measure(build(784, scheme, seed, width=1000), activation, x, y) for seed in range(6)]
    norms = x.double().square().sum(dim=1).numpy()
    q, g = predict_variance(activation, scheme, norms, inputs=784, width=1000)
    forwards = np.log([run["rms_preactivation"] for run in measured])
    gradients = np.array([run["rms_gradient_activation"] for run in measured])
    backwards = np.log(gradients / gradients[:, -1:])
    for values, expected in ((forwards, np.log(q) / 2), (backwards, np.log(g) / 2)):
        spread = np.maximum(values.std(axis=0, ddof=1), 0.01)
        assert (np.abs(values.mean(axis=0) - expected) < 2 * spread).all(), (values.mean(axis=0), expected, spread)


def test_measured_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    layers = build(12, "0.3", seed=1, width=7).double()
    x, y = torch.randn(5, 12, dtype=torch.float64), torch.arange(5)
    measured = measure(layers, "tanh", x, y)

    def loss_from(layer, h):
        for following in layers[layer + 2 : -1]:
            h = torch.tanh(following(h))
        return torch.nn.functional.cross_entropy(layers[-1](h), y, reduction="sum")

    after = [h.detach() for h in forward(layers, "tanh", x)[2]]
    step = 1e-6
    for layer in range(DEPTH):
        squares = []
        for i in range(5):
            for j in range(7):
                shift = torch.zeros_like(after[layer])
                shift[i, j] = step
                difference = loss_from(layer, after[layer] + shift) - loss_from(layer, after[layer] - shift)
                squares.append((difference.item() / (2 * step)) ** 2)
        assert measured["rms_gradient_activation"][layer] == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-6)


def test_saturated_and_dead_shares():
    layers = build(4, "0.1", seed=0, width=6)
    with torch.no_grad():
        for layer in layers:
            layer.weight.zero_()
        layers[1].bias.copy_(torch.tensor([5.0, -5.0, 0.1, 0.1, 0.1, 0.1]))  # two of six units saturate
    x, y = torch.randn(8, 4), torch.zeros(8, dtype=torch.long)
    assert measure(layers, "tanh", x, y)["saturated"][0] == pytest.approx(2 / 6)
    assert measure(layers, "sigmoid", x, y)["saturated"][0] == pytest.approx(1 / 6 * 2)
    assert measure(layers, "relu", x, y)["dead_units"][0] == pytest.approx(1 / 6)


def test_after_a_divergence_there_is_no_accuracy():
    layers = build(4, "1", seed=0)
    config = {"learning_rate": 1e20, "seed": 0, "epochs": 2, "batch_size": 2, "activation": "relu"}
    result = train(layers, config, torch.ones(8, 4), torch.arange(8) % 3)
    assert np.isfinite(result["train_accuracy"][0]) and np.isnan(result["train_accuracy"][1:]).all()


def test_activations_that_are_not_finite_are_neither_saturated_nor_dead():
    layers = build(4, "1e30", seed=0)
    measured = measure(layers, "relu", torch.ones(8, 4), torch.arange(8) % 3)
    assert np.isnan(measured["dead_units"][-1]) and np.isnan(measured["saturated"][-1])
    alive = measure(build(4, "1", seed=0), "relu", torch.ones(8, 4), torch.arange(8) % 3)
    assert 0 < alive["dead_units"][0] == alive["saturated"][0] < 1  # all images are alike


def test_the_theory_by_deviation_is_a_power_where_the_activation_is_linear_or_a_relu():
    """Four layers of 100 units: (sigma sqrt(N / 2))^4 for ReLU, (sigma sqrt(N))^4 for small tanh, / 4^4 for sigmoid."""
    x = torch.rand(20, 784)
    for activation, slope, largest in (("relu", 0.5**0.5, np.inf), ("tanh", 1, 0.01), ("sigmoid", 0.25, 0.01)):
        predicted = theory_by_deviation(activation, x)
        for deviation, ratio in zip(predicted["deviations"], predicted["gradient"], strict=True):
            if deviation < largest:
                assert ratio == pytest.approx((slope * deviation * 10) ** 4, rel=0.03)
    # At a deviation that was run, it is what its runs are compared with.
    config = {"activation": "tanh", "scheme": str(DEVIATIONS[20]), "depth": DEPTH}
    relative = theory(config, x)["theory_relative_gradient"]
    assert theory_by_deviation("tanh", x)["gradient"][20] == pytest.approx(relative[0])


def test_the_summary_says_how_many_images_there_were_and_not_how_many_were_asked_for():
    row = {"dataset": "digits", "epochs": 1, "train_images": 6000, "test_images": 1000, "batch_size": 64, "seed": 0}
    keys = ("rms_gradient_activation", "saturated", "dead_units", "theory_relative_gradient")
    numbers = {key: [[0.5] * 5] for key in keys}
    rows = []
    for scheme in ("glorot", "he"):
        for depth in (DEPTH, DEEP):
            setting = {"activation": "relu", "scheme": scheme, "depth": depth, "train_loss": [2.3, 2.0]}
            rows.append(row | setting | {key: values[0] for key, values in numbers.items()})
    shares = {key: [0.5] * DEEP for key in ("image_share", "never_active", "always_active")}
    rows.append({"measured": "images", "activation": "relu", **shares})
    protocol = summarise(pd.DataFrame(rows))["protocol"]
    assert (protocol["train_images"], protocol["test_images"]) == (1437, 360)


def test_four_times_glorots_deviation_undoes_the_sigmoids_slope_at_zero():
    """Where the sigmoid is linear, N sigma^2 / 16 = 1: the gradient is kept, as Glorot's keeps that of tanh."""
    assert standard_deviation("glorot_x4", 100, 100) == pytest.approx(0.4)
    _, slope = gaussian_moments("sigmoid", np.array([1e-3]))
    assert 100 * 0.4**2 * slope[0] == pytest.approx(1, rel=1e-5)


def test_what_varies_between_images_against_the_arc_cosine_kernel():
    """The correlation of two images' signals follows Cho and Saul's recursion; what varies is one minus its mean."""
    torch.manual_seed(0)
    x = torch.randn(12, 40) + 1.0
    x = x / x.norm(dim=1, keepdim=True)
    layers = build(40, "he", seed=0, depth=4, width=3000)
    measured = varying(layers, x)["image_share"]
    correlations = (x @ x.T).numpy()  # the first layer is linear
    for share in measured:
        assert share == pytest.approx(1 - correlations.mean(), rel=0.1)
        angles = np.arccos(np.clip(correlations, -1, 1))
        correlations = (np.sin(angles) + (np.pi - angles) * np.cos(angles)) / np.pi


def test_units_that_are_never_and_always_active():
    layers = build(4, "0.1", seed=0, width=6)
    with torch.no_grad():
        for layer in layers:
            layer.weight.zero_()
        layers[1].bias.copy_(torch.tensor([5.0, -5.0, -1.0, 0.1, 0.1, 0.1]))
    shares = varying(layers, torch.randn(8, 4))
    assert shares["never_active"][0] == pytest.approx(2 / 6) and shares["always_active"][0] == pytest.approx(4 / 6)
