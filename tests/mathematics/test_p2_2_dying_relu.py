"""Questions 2.2 and 2.3: the ensemble against networks trained one by one, the theory against simulation and table."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from coms6998_hw2 import p2_2_dying_relu as problem
from coms6998_hw2.problem_2 import relu_ensemble as ensemble
from utils.cli import ROOT
from utils.intervals import paired_shares

CHOICES = {"slope": 0.0, "loss": "mse", "optimizer": "adam", "learning_rate": 1e-3}


def train_alone(layers, x, y, *, slope, loss, optimizer, learning_rate, batch_size, epochs, seed):
    """Train one network in plain PyTorch: nn.Linear, its own optimizer, a loop over its minibatches."""
    modules = []
    for weight, bias in layers:
        linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)
        modules += [linear, nn.LeakyReLU(slope) if slope else nn.ReLU()]
    network = nn.Sequential(*modules[:-1])
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimizer]
    stepper = kind(network.parameters(), lr=learning_rate)
    criterion = nn.MSELoss() if loss == "mse" else nn.L1Loss()
    for epoch in range(1, epochs + 1):
        for batch in torch.from_numpy(ensemble.draw_order(len(x), seed, epoch)).split(batch_size):
            stepper.zero_grad()
            criterion(network(x[batch, None])[:, 0], y[batch]).backward()
            stepper.step()
    return [(module.weight.detach(), module.bias.detach()) for module in network if isinstance(module, nn.Linear)]


@pytest.mark.parametrize(
    ("width", "hidden", "initialization", "change"),
    [
        (2, 3, "he", {}),
        (3, 4, "glorot", {"slope": 0.01}),
        (4, 2, "pytorch", {"loss": "mae", "slope": 0.1}),
        (2, 9, "rai", {"optimizer": "sgd", "learning_rate": 0.01}),
        (1, 2, "rai", {"learning_rate": 0.01}),
    ],
)
def test_the_ensemble_trains_the_same_networks_as_a_loop_over_them(width, hidden, initialization, change):
    choices = {**CHOICES, **change, "batch_size": 64, "epochs": 3, "seed": 5}
    layers = ensemble.draw_layers(width, hidden, initialization, 5, range(7))
    x = ensemble.draw_points(150, 5, range(7))  # 64 + 64 + 22: a last batch that is smaller
    y = ensemble.TARGETS["x_sin_5x"](x)
    one_by_one = [train_alone([(w[..., k], b[..., k]) for w, b in layers], x[k], y[k], **choices) for k in range(7)]
    before = [weight.clone() for weight, _ in layers]
    ensemble.train(layers, x, y, **choices)
    assert any((weight - old).abs().max() > 1e-3 for (weight, _), old in zip(layers, before, strict=True))
    for k, alone in enumerate(one_by_one):
        for (weight, bias), (expected_weight, expected_bias) in zip(layers, alone, strict=True):
            torch.testing.assert_close(weight[..., k], expected_weight, rtol=1e-9, atol=1e-10)
            torch.testing.assert_close(bias[..., k], expected_bias, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("initialization", ensemble.INITIALIZATIONS)
def test_a_network_is_the_same_in_an_ensemble_of_any_size(initialization):
    many = ensemble.draw_layers(3, 4, initialization, 1, range(10))
    few = ensemble.draw_layers(3, 4, initialization, 1, range(6, 8))
    for (weight, bias), (some_weight, some_bias) in zip(many, few, strict=True):
        assert torch.equal(weight[..., 6:8], some_weight) and torch.equal(bias[..., 6:8], some_bias)
    assert torch.equal(ensemble.draw_points(20, 1, range(10))[6:8], ensemble.draw_points(20, 1, range(6, 8)))
    assert len({weight[0, 0, k].item() for weight, _ in many for k in range(10)}) == 10 * len(many)


def test_chunks_change_no_network(monkeypatch):
    config = {**problem.configs("quick")[0], "networks": 10, "epochs": 2, "points": 200}
    together = problem.train_and_watch(config, torch.device("cpu"))
    monkeypatch.setattr(ensemble, "CHUNK", 4)
    apart = problem.train_and_watch(config, torch.device("cpu"))
    np.testing.assert_allclose(apart["r2"], together["r2"], rtol=1e-3)
    np.testing.assert_array_equal(apart["constant"], together["constant"])


def test_initial_distributions():
    he, glorot, default = (ensemble.draw_layers(8, 2, name, 0, range(400)) for name in ("he", "glorot", "pytorch"))
    assert he[1][0].std().item() == pytest.approx(np.sqrt(2 / 8), rel=0.02) and (he[1][1] == 0).all()
    assert glorot[0][0].std().item() == pytest.approx(np.sqrt(2 / 9), rel=0.05)
    torch.manual_seed(0)
    reference = torch.cat([nn.Linear(8, 8).weight.detach().flatten() for _ in range(400)])
    assert default[1][0].abs().max().item() == pytest.approx(reference.abs().max().item(), rel=0.01)
    assert default[1][0].std().item() == pytest.approx(reference.std().item(), rel=0.02)
    weight, bias = ensemble.draw_layers(8, 1, "rai", 0, range(400))[0]
    rai = torch.cat([weight, bias[:, None]], dim=1)
    # Input 1: each unit has two entries, one N(0, 0.6007^2), one Beta(2, 1) of mean 2/3 and second moment 1/2.
    assert rai.square().mean().item() == pytest.approx((0.6007**2 + 0.5) / 2, rel=0.05)
    assert rai.mean().item() == pytest.approx(1 / 3, rel=0.05)


# From another program, which follows two million networks each (standard error below 0.0004), and from the theorem:
# (width, hidden): (lower, probability, upper).
TABLE = {
    (2, 9): (0.8703, 0.8800, 0.9249),
    (2, 10): (0.9026, 0.9101, 0.9437),
    (3, 9): (0.5134, 0.5785, 0.6993),
    (3, 10): (0.5684, 0.6309, 0.7369),
    (4, 9): (0.2042, 0.2945, 0.4406),
    (5, 9): (0.0640, 0.1281, 0.2485),
    (10, 9): (0.0001, 0.0013, 0.0088),
}


@pytest.mark.parametrize(("width", "hidden"), TABLE)
def test_bounds_and_simulation_against_the_table(width, hidden):
    lower, probability, upper = TABLE[width, hidden]
    assert ensemble.born_dead_bounds(width, hidden) == pytest.approx((lower, upper), abs=6e-5)
    n = 40_000
    share = ensemble.count_born_dead(width, hidden, n, seed=0)[-1] / n
    assert abs(share - probability) < 4 * np.sqrt(probability * (1 - probability) / n) + 5e-4


def test_the_two_signals_tell_what_the_whole_network_does():
    n, numbers = 4000, range(4000)
    layers = ensemble.draw_layers(2, 4, "he", 0, numbers)
    constant = np.mean(ensemble.evaluate(layers, 0.0, "abs")["range"] == 0)
    share = ensemble.count_born_dead(2, 4, 100_000, seed=0)[-1] / 100_000
    assert abs(constant - share) < 4 * np.sqrt(share * (1 - share) / n)


def test_rai_is_born_dead_as_rarely_as_the_table_says():
    for hidden, probability in ((9, 0.219), (10, 0.254)):
        layers = ensemble.draw_layers(2, hidden, "rai", 0, range(4000))
        share = np.mean(ensemble.evaluate(layers, 0.0, "abs")["range"] == 0)
        assert abs(share - probability) < 4 * np.sqrt(probability * (1 - probability) / 4000) + 1e-3


def by_hand(weight, bias, out, out_bias):
    w1, b1, w2, b2 = (torch.tensor(part, dtype=torch.float64)[..., None] for part in (weight, bias, out, out_bias))
    return [(w1, b1), (w2, b2)]


def test_evaluate_tells_the_kinds_apart():
    cases = {
        "alive": by_hand([[1], [-1]], [0, 0], [[1, 1]], [0]),  # relu(x) + relu(-x) = |x| exactly
        "half": by_hand([[1], [-1]], [0, 0], [[0.55, 0]], [0.88]),  # flat for x < 0
        "collapsed": by_hand([[1], [-1]], [-9, -9], [[1, 1]], [1.3]),  # no unit ever fires
    }
    evaluated = {name: ensemble.evaluate(layers, 0.0, "abs") for name, layers in cases.items()}
    assert evaluated["alive"]["r2"][0] == pytest.approx(1) and evaluated["alive"]["range"][0] == pytest.approx(1)
    assert evaluated["collapsed"]["range"][0] == 0 and evaluated["collapsed"]["value"][0] == pytest.approx(1.3)
    assert evaluated["half"]["left_range"][0] == 0
    assert evaluated["half"]["right_range"][0] == pytest.approx(0.55, rel=0.01)
    for name, values in evaluated.items():
        assert problem.kinds(values["r2"], values["left_range"], values["right_range"]).tolist() == [name]


def test_a_leaky_network_is_almost_but_never_exactly_constant():
    layers = ensemble.draw_layers(2, 9, "he", 0, range(300))
    relu, leaky = (ensemble.evaluate(layers, slope, "abs")["range"] for slope in (0.0, 0.01))
    assert (relu == 0).mean() > 0.8 and (leaky == 0).sum() == 0 and (leaky < 1e-6).mean() > 0.2


MOMENTS = [
    ("abs", 1.322876, 1.322876, 7 / 12),
    ("x_sin_5x", -0.148407, 0.015453, 1.01427),
    ("step_sin_5x", 0.5, 0.2, 0.272464),
]


@pytest.mark.parametrize(("target", "mean", "median", "variance"), MOMENTS)
def test_targets_have_the_moments_of_the_closed_forms(target, mean, median, variance):
    edge = float(ensemble.HALF_INTERVAL)
    x = torch.linspace(-edge, edge, 1_000_001, dtype=torch.float64)
    y = ensemble.TARGETS[target](x)
    assert y.mean().item() == pytest.approx(mean, abs=2e-5) and y.var().item() == pytest.approx(variance, abs=2e-4)
    assert y.median().item() == pytest.approx(median, abs=1e-3)


def test_mcnemar_on_agrestis_table():
    # Approval in two surveys of the same 1,600 people: 794 both times, 150 first only, 86 second only, 570 never.
    first = np.repeat([True, True, False, False], [794, 150, 86, 570])
    second = np.repeat([True, False, True, False], [794, 150, 86, 570])
    compared = paired_shares(first, second)
    difference = compared["difference"]
    assert difference["fraction"] == pytest.approx(0.04, abs=1e-9)
    assert (compared["only_first"], compared["only_second"]) == (150, 86)
    assert (difference["low"], difference["high"]) == pytest.approx((0.0213, 0.0587), abs=1e-3)
    assert compared["p"] < 1e-4


@pytest.mark.parametrize("compiler", ["", "/nonexistent"])
def test_compiled_or_not_the_networks_are_the_same(compiler, tmp_path):
    code = (
        "import torch\n"
        "from coms6998_hw2.problem_2 import relu_ensemble as e\n"
        "def trained(compiled):\n"
        "    layers, x = e.draw_layers(2, 2, 'he', 0, range(3)), e.draw_points(100, 0, range(3))\n"
        f"    choices = {CHOICES!r} | dict(batch_size=64, epochs=2, seed=0)\n"
        "    return e.train(layers, x, x.abs(), **choices, compiled=compiled), layers\n"
        "worked, fast = trained(True); _, plain = trained(False)\n"
        "for a, b in zip(fast, plain): torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)\n"
        "print('compiled', worked)"
    )
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)} | ({"CXX": compiler} if compiler else {})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    if compiler:
        assert "compiled False" in done.stdout and done.stderr.count("torch.compile does not work here") == 1
        assert "Traceback" not in done.stderr


def test_dead_layers_by_hand():
    """One path: 1, then -2 (dead), then with leaky ReLU -0.02 * -1 > 0; the other side is the mirror."""
    weights = [[[1.0]], [[-2.0]], [[-1.0]], [[1.0]]]
    bias = torch.zeros(1, 1, dtype=torch.float64)
    layers = [(torch.tensor(weight, dtype=torch.float64)[..., None], bias) for weight in weights]
    # x = 1: alive, dead, alive again through the slope; x = -1: dead, alive (-0.01 * -2), dead.
    assert ensemble.dead_layers(layers, 0.01).tolist() == [[2], [1]]
    # ReLU: what is dead stays dead. x = 1: alive, dead, dead; x = -1: dead from the first layer on.
    assert ensemble.dead_layers(layers, 0.0).tolist() == [[3], [2]]


def test_one_inputs_path_dies_as_often_as_the_upper_bound_says():
    """A layer of two units passes a positive signal on with probability 3/4: 1 - (3/4)^9 over nine layers."""
    layers = ensemble.draw_layers(2, 9, "he", 5, range(4000))
    dead = ensemble.dead_layers(layers, 0.0) > 0
    expected = 1 - 0.75**9
    assert ensemble.born_dead_bounds(2, 9)[1] == pytest.approx(expected)
    for side in dead:
        assert abs(side.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000)
    constant = ensemble.evaluate(layers, 0.0, "abs")["range"] == 0
    np.testing.assert_array_equal(dead.all(axis=0), constant)


def test_the_committed_births_are_those_of_the_networks_that_were_trained():
    folder = ROOT / "report" / "results" / problem.STEM
    for seed in range(3):
        birth, trained = (
            json.loads((folder / f"{name}_seed{seed}.json").read_text())["result"]
            for name in ("birth", "relu_9_hidden")
        )
        both = np.sum(np.all(np.array(birth["relu_dead_layers"]) > 0, axis=0))
        assert both == trained["constant"][0]


def test_fates_and_dead_layers_are_counted():
    """Networks: collapsed, flat on one side, fitted, in between, collapsed."""
    ranges = {"left_range": [[0, 0, 1, 1, 0]], "right_range": [[0, 1, 1, 1, 0]]}
    rows = pd.DataFrame({"r2": [[0.0, 0.5, 0.995, 0.6, 0.0]], **ranges})
    table = problem.fates(rows, np.array([[1, 2, 0, 0, 0], [3, 0, 0, 0, 1]]))
    assert table["both"] == {"collapsed": 1, "half": 0, "alive": 0, "fitted": 0}
    assert table["one"] == {"collapsed": 1, "half": 1, "alive": 0, "fitted": 0}
    assert table["none"] == {"collapsed": 0, "half": 0, "alive": 1, "fitted": 1}
    counted = problem.by_dead_layers(np.array([0.0, 0.5, 0.0, 0.9]), np.array([3, 1, 1, 1]))
    assert [(row["dead_layers"], row["collapsed"]["fraction"]) for row in counted] == [
        (1, pytest.approx(1 / 3)),
        (3, 1),
    ]


@pytest.mark.parametrize("epsilon", [1e-8, 1e-3])
def test_adams_epsilon_is_what_is_named(epsilon):
    layers = [(weight.float(), bias.float()) for weight, bias in ensemble.draw_layers(2, 2, "pytorch", 0, range(1))]
    x = ensemble.draw_points(64, 0, range(1)).float()
    y = ensemble.TARGETS["abs"](x)
    plain = [(weight.clone(), bias.clone()) for weight, bias in layers]
    choices = {"slope": 0.01, "loss": "mse", "learning_rate": 1e-3, "batch_size": 64, "epochs": 3, "seed": 0}
    ensemble.train(layers, x, y, optimizer="adam", epsilon=epsilon, **choices)
    parameters = [tensor for layer in plain for tensor in layer]
    optimizer = torch.optim.Adam(parameters, lr=1e-3, eps=epsilon)
    for _ in range(3):
        share = torch.full((64,), 1 / 64)
        by_layer = ensemble.gradients(plain, x, y, share, torch.tensor(0.01), 2)
        for (weight, bias), (weight_gradient, bias_gradient) in zip(plain, by_layer, strict=True):
            weight.grad, bias.grad = weight_gradient, bias_gradient
        optimizer.step()
    for ours, theirs in zip(layers, plain, strict=True):
        torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=1e-6)
