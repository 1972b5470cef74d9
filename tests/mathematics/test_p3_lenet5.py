"""Problem 3: what is measured is what the report says, and nothing is chosen on the test set."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from coms6998_hw2 import p3_lenet5 as p3
from coms6998_hw2.models import EVERYWHERE, LeNet5, batch_norms
from coms6998_hw2.problem_3.figures import LAYERS
from coms6998_hw2.problem_3.layer_statistics import (
    DRAWS,
    SHARES,
    drift,
    inputs_of,
    noise_of_running_mean,
    variance_shift,
    without_units,
)
from coms6998_hw2.problem_3.summary import best_rates, by_place, deletion, differences, interactions_after_holm
from coms6998_hw2.trainer import Trainer, on_device
from utils import data
from utils.cli import ROOT, Options

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images(dataset):
    return data.load(dataset, ROOT / "data", train=True)


def test_the_input_is_standardized_by_one_mean_and_one_deviation(images):
    pixels = on_device(images[0][:500], images[1][:500], CPU)[0]
    prepared = p3.preparation(images[0][:500], standardized=True)(pixels)
    assert prepared.shape == (500, 1, 32, 32)
    assert prepared.mean().item() == pytest.approx(0, abs=1e-5) and prepared.std().item() == pytest.approx(1, abs=1e-4)
    raw = p3.preparation(images[0][:500], standardized=False)(pixels)
    assert raw.min() == 0 and 0.99 <= raw.max() <= 1
    assert np.corrcoef(raw.flatten(), prepared.flatten())[0, 1] == pytest.approx(1)


def test_the_reported_training_loss_is_the_one_without_dropouts_noise(dataset):
    config = p3.one_run("quick", "dropout", rate=0.03, images=300, epochs=2, seed=0)
    result = p3.run({**config, "dataset": dataset, "loaded": 700})
    assert result["running_train_loss"][-1] > 1.1 * result["train_loss"][-1]
    # All 300 images are watched: the last epoch's loss is that of the whole training set at the end.
    assert result["train_loss"][-1] == pytest.approx(result["final_train_loss"], rel=1e-6)


def test_dropout_right_before_batch_norm_halves_the_variance_at_test_time():
    """Kept units are doubled: E[x^2] doubles in training, and with it, for a mean near zero, the variance."""
    torch.manual_seed(0)
    model = LeNet5(batch_norm=True, dropout=EVERYWHERE, dropout_first=True)
    model.input[-1].p = 0.0
    trainer = Trainer(model, CPU, lambda pixels: pixels, learning_rate=1e-9)
    pixels, labels = torch.randn(4000, 1, 32, 32), torch.zeros(4000, dtype=torch.long)
    trainer.train(pixels, labels, np.arange(4000).reshape(-1, 100), [1e-9] * 40)
    assert variance_shift(trainer, pixels)["c1"] == pytest.approx(0.5, rel=0.1)


def test_what_a_module_receives_is_what_the_layer_before_it_computes(images):
    torch.manual_seed(0)
    trainer = Trainer(LeNet5(), CPU, p3.preparation(images[0][:100], standardized=True), learning_rate=0.1)
    pixels, _ = on_device(images[0][:100], images[1][:100], CPU)
    inputs = inputs_of(trainer, pixels, nn.Tanh)
    assert list(inputs) == list(LAYERS)
    convolved = trainer.model.c1[0](trainer.prepare(pixels))  # (100, 6, 28, 28)
    assert inputs["c1"].shape == (100 * 28 * 28, 6)
    expected = convolved.double().mean((0, 2, 3))
    torch.testing.assert_close(inputs["c1"].mean(0), expected, rtol=1e-5, atol=1e-6)
    assert inputs["f6"].shape == (100, 84)


def small_trainer(images):
    torch.manual_seed(0)
    return Trainer(LeNet5(), CPU, p3.preparation(images[0][:200], standardized=True), learning_rate=0.1)


@torch.no_grad()
def test_a_unit_that_alone_decides_is_missed_as_often_as_it_is_deleted(images):
    trainer, (pixels, labels) = small_trainer(images), on_device(images[0][:200], images[1][:200], CPU)
    accuracies = without_units(trainer, pixels, labels, np.random.default_rng(0))
    assert accuracies["c5"][0] == accuracies["f6"][0] == pytest.approx(trainer.evaluate(pixels, labels)[1])
    f6, output = trainer.model.f6[0], trainer.model.output
    f6.weight.zero_(), f6.bias.fill_(1.0)
    output.weight.zero_(), output.bias.zero_()
    output.weight[7, 0], output.bias[3] = 1.0, 0.1  # the first unit says seven; without it, it is a three
    with_it, without_it = (
        without_units(trainer, pixels, torch.full_like(labels, label), np.random.default_rng(0))["f6"]
        for label in (7, 3)
    )
    expected = np.array([1 - round(share * 84) / 84 for share in SHARES])
    np.testing.assert_allclose(with_it, expected, atol=4 * (0.25 / DRAWS) ** 0.5)
    np.testing.assert_allclose(np.add(with_it, without_it), 1, rtol=1e-6)
    assert with_it[0] == 1 and 0 < with_it[-1] < with_it[1]
    output.bias[0] = torch.inf
    assert np.isnan(without_units(trainer, pixels, labels, np.random.default_rng(0))["f6"]).all()


@torch.no_grad()
def test_units_that_are_all_alike_can_be_deleted_since_the_rest_are_scaled(images):
    trainer, (pixels, labels) = small_trainer(images), on_device(images[0][:200], images[1][:200], CPU)
    c5, f6 = trainer.model.c5[0], trainer.model.f6[0]
    c5.weight[:] = c5.weight[:1]
    f6.weight[:] = f6.weight[:, :1]
    accuracies = without_units(trainer, pixels, labels, np.random.default_rng(0))["c5"]
    assert accuracies == pytest.approx([accuracies[0]] * len(SHARES))


def test_drift_is_the_change_of_the_mean_in_deviations():
    means, deviations = torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, -3.0]]), torch.tensor([2.0, 4.0])
    statistics = [{"c1": (mean, deviations)} for mean in means]
    assert drift(statistics)["c1"] == pytest.approx([(1 / 2 + 0) / 2, (0 + 4 / 4) / 2])
    assert drift(statistics, of="deviation")["c1"] == [0, 0]
    statistics = [{"c1": (means[0], spread)} for spread in torch.tensor([[2.0, 4.0], [1.0, 4.0], [1.0, 7.0]])]
    assert drift(statistics, of="deviation")["c1"] == pytest.approx([(1 / 2 + 0) / 2, (0 + 3 / 4) / 2])
    assert drift(statistics)["c1"] == [0, 0]


def test_the_noise_of_a_running_mean_is_what_batch_norm_shows_at_fixed_weights():
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(2000)
    means = []
    for _ in range(3):
        for _ in range(100):
            norm(torch.randn(64, 2000))
        means.append(norm.running_mean.clone())
    measured = torch.stack(means).diff(dim=0).abs().mean().item()
    assert noise_of_running_mean(64) == pytest.approx(measured, rel=0.04)


def table(*rows):
    """Return runs of every variant: (seed, rate, last validation accuracy, test accuracy)."""
    names = ("seed", "learning_rate", "validation_accuracy", "test_accuracy")
    runs = [dict(zip(names, (seed, rate, [0.0, score], test), strict=True)) for seed, rate, score, test in rows]
    return pd.DataFrame([{"variant": v, "images": 100, "epochs": 2, **run} for run in runs for v in p3.VARIANTS])


def test_the_rate_is_chosen_on_validation_and_not_on_the_test_set():
    frame = table((0, 0.01, 0.8, 0.9), (0, 0.03, 0.9, 0.1), (1, 0.1, 0.99, 0.99))
    assert best_rates(frame, 100, 2, seeds=[0]) == dict.fromkeys(p3.VARIANTS, 0.03)


def test_what_one_seed_finds_is_compared_with_the_common_rate_over_all():
    frame = table((0, 0.01, 0.91, 0), (0, 0.03, 0.90, 0), (1, 0.01, 0.80, 0), (1, 0.03, 0.90, 0), (0, 0.1, 0.99, 0))
    assert best_rates(frame, 100, 2, seeds=[0, 1]) == dict.fromkeys(p3.VARIANTS, 0.03)


def test_the_schedule_ends_at_zero_and_starts_at_the_rate():
    rates = p3.cosine(0.1, 1000)
    assert rates[0] == 0.1 and rates[500] == pytest.approx(0.05) and 0 < rates[-1] < 1e-6
    assert np.all(np.diff(rates) < 0)


def scored(configs, score):
    """Return runs of these configs, of which `score` tells the last validation accuracy."""
    return pd.DataFrame([{**config, "validation_accuracy": [score(config)]} for config in configs])


def test_every_run_of_the_protocol_is_there_once():
    configs = p3.configs("full")
    frame = scored(configs, lambda config: 0.8 + 0.1 * (config["learning_rate"] == 0.1))
    configs += p3.repeated_configs(frame, Options())
    names = [config["name"] for config in configs]
    assert len(set(names)) == len(names)
    for variant in p3.VARIANTS:
        for images, epochs, rates in ((55_000, 20, (p3.COMMON_RATE, 0.1)), (5500, 80, (0.1,)), (550, 400, (0.1,))):
            for rate in p3.PRESETS["full"].rates:
                wanted = {"variant": variant, "learning_rate": rate, "images": images, "epochs": epochs}
                seeds = {config["seed"] for config in configs if wanted.items() <= config.items()}
                assert seeds == (set(range(5 if images == 55_000 else 3)) if rate in rates else {0})
    places = pd.DataFrame([config for config in configs if config["variant"] in p3.PLACES])
    assert set(places.images) == {55_000} and len(places) == len(p3.PLACES) * (2 * 5 + 2)


def test_a_best_rate_at_an_end_of_the_grid_is_tried_past_it():
    best = {"none": 0.03, "bn": 0.1, "bn_input": 0.1, "dropout": 0.01, "bn_dropout": 0.3, "dropout_bn": 0.3}
    best |= dict.fromkeys(p3.PLACES, 0.1)
    grid = p3.configs("full")
    frame = scored(grid, lambda config: 0.9 + 0.05 * (config["learning_rate"] == best[config["variant"]]))
    beyond = p3.beyond_configs(frame, Options())
    tried = {(config["variant"], config["learning_rate"]) for config in beyond}
    assert tried == {("dropout", 0.003), ("bn_dropout", 1.0), ("dropout_bn", 1.0)}
    assert len(beyond) == 9 and {c["seed"] for c in beyond} == {0}  # three sizes of the training set


def test_more_epochs_are_run_at_each_variants_own_rate_which_the_first_seed_alone_does_not_decide():
    first = scored(p3.configs("full"), lambda config: 0.8 + 0.1 * (config["learning_rate"] == 0.1))
    repeated = p3.repeated_configs(first, Options())
    # With the first seed 0.1 was ahead of all; with the others it is behind the common rate for dropout.
    others = scored(repeated, lambda config: 0.7 if config["variant"] == "dropout" else 0.9)
    longer = p3.long_configs(pd.concat([first, others]), Options())
    rates = {config["variant"]: config["learning_rate"] for config in longer}
    assert rates == {"bn": 0.1, "dropout": p3.COMMON_RATE, "bn_dropout": 0.1, "dropout_bn": 0.1}
    assert {(config["images"], config["epochs"]) for config in longer} == {(55_000, 40)}
    assert len({config["name"] for config in longer}) == 4 * 3


def test_the_interaction_is_what_both_change_beyond_the_sum():
    changes = {"none": 0.0, "bn": 0.02, "bn_input": 0.02, "dropout": -0.01, "bn_dropout": 0.01, "dropout_bn": 0.03}
    own = np.array([0.90, 0.91, 0.93])  # of the seed: no part of a paired difference
    numbers = differences({variant: own + change for variant, change in changes.items()})
    assert numbers["beyond_the_sum"]["bn_dropout"]["mean"] == pytest.approx(0)
    assert numbers["beyond_the_sum"]["dropout_bn"]["mean"] == pytest.approx(0.02)
    assert numbers["dropout_bn_minus_bn"]["mean"] == pytest.approx(0.01)
    assert numbers["dropout_bn_minus_bn"]["high"] == pytest.approx(0.01)


def test_what_half_of_the_units_cost_is_paired_by_seed():
    own = np.array([0.0, 0.01, 0.03])  # of the seed

    def runs(loss):
        deletion = [{layer: list(0.9 - seed - loss * np.array(SHARES)) for layer in ("c5", "f6")} for seed in own]
        return pd.DataFrame({"deletion": deletion})

    numbers = deletion({"none": runs(0.2), "bn": runs(0.1), "dropout": runs(0.02), "bn_dropout": runs(0.04)})
    assert numbers["none"]["f6"]["lost"]["mean"] == pytest.approx(0.1)
    fewer = numbers["dropout"]["c5"]["lost_more_than_none"]
    assert (fewer["mean"], fewer["low"], fewer["high"]) == pytest.approx((-0.09, -0.09, -0.09))
    assert numbers["bn"]["c5"]["accuracy"][3]["mean"] == pytest.approx(0.9 - own.mean() - 0.03)


def test_dropout_at_one_place_is_compared_at_its_own_rate_seed_by_seed():
    rows = []
    for seed in range(2):
        for rate, validation, gain in ((0.03, 0.8, 0.5), (0.1, 0.9, 0.01)):
            row = {"variant": "bn_dropout_last", "images": 100, "epochs": 2, "seed": seed, "learning_rate": rate}
            accuracy = {"validation_accuracy": [validation], "test_accuracy": 0.9 - 0.1 * seed + gain}
            rows.append({**row, **accuracy, "final_train_accuracy": 1.0})
    scores = pd.DataFrame({"test_accuracy": [0.9, 0.8]})
    numbers = by_place(pd.DataFrame(rows), {"bn": scores, "bn_dropout": scores - 0.02}, 100, 2)["bn_dropout_last"]
    assert numbers["learning_rate"] == 0.1
    assert numbers["minus_bn"]["mean"] == pytest.approx(0.01) == numbers["minus_bn"]["high"]
    assert numbers["minus_bn_dropout"]["mean"] == pytest.approx(0.03)


def test_the_interactions_p_values_are_corrected_for_their_number():
    def runs(*beyond):
        scores = {"none": [0.9] * 3, "bn": [0.92] * 3, "dropout": [0.89] * 3, "dropout_bn": [0.91, 0.93, 0.89]}
        scores["bn_dropout"] = [0.91 + x for x in beyond]
        return {name: pd.DataFrame({"test_accuracy": score}) for name, score in scores.items()}

    corrected = interactions_after_holm({"own": runs(0.01, 0.02, 0.03), "common": runs(0.01, -0.02, 0.03)})
    # 1, 2 and 3 points: t = 3.46 with 2 degrees, p = 0.0742, the least of four
    assert corrected["own bn_dropout"] == pytest.approx(4 * 0.0742, abs=4e-4)
    assert corrected["own dropout_bn"] == corrected["common dropout_bn"] == 1


def test_with_few_images_fewer_epochs_are_evaluated_and_the_last_always(dataset):
    config = p3.one_run("quick", "none", rate=0.03, images=80, epochs=9, seed=0)
    result = p3.run({**config, "dataset": dataset, "loaded": 400})  # 360 after the split: every fourth epoch
    assert len(result["train_loss"]) == len(result["drift"]["c1"]) + 1 == 3
    assert result["train_loss"][-1] == pytest.approx(result["final_train_loss"], rel=1e-6)


def test_with_one_channel_batch_norm_at_the_input_changes_nothing_in_training(images):
    """What question 3.3's answer says: C1's batch norm takes out what the input's put in."""
    labels = torch.tensor(images[1][:64])
    outcomes = []
    for standardized in (True, False):
        torch.manual_seed(0)
        model = LeNet5(batch_norm=True, batch_norm_input=not standardized).double()
        for norm in batch_norms(model).values():
            norm.eps = 1e-20
        # The statistics of other images than these: standardization and batch norm shift and scale differently.
        prepare = p3.preparation(images[0][100:200], standardized)
        logits = model(prepare(on_device(*(part[:64] for part in images), CPU)[0]).double())
        nn.functional.cross_entropy(logits, labels).backward()
        weights = [parameter.grad for name, parameter in model.named_parameters() if not name.startswith("input")]
        outcomes.append([logits.detach(), *weights])
    for a, b in zip(*outcomes, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)  # the pixels were divided in single precision
