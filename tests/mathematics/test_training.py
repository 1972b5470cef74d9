"""The training loop against the plain one, accumulation against the large batch, augmentation against NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from coms6998_hw2.models import EVERYWHERE, LeNet5, MiniGoogLeNet
from coms6998_hw2.problem_4.training_run import batch_sizes
from coms6998_hw2.trainer import EVALUATION_BATCH, Trainer, on_device, shift_and_flip, split_in_batches

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
PIXELS, LABELS = on_device(RNG.integers(0, 256, (600, 32, 32), dtype=np.uint8), RNG.integers(0, 10, 600), CPU)


def scale(pixels):
    return pixels / 255


def trainer(model, **options):
    return Trainer(model, CPU, scale, **{"learning_rate": 0.05, **options})


def fresh(kind=LeNet5, **options):
    torch.manual_seed(0)
    return kind(**options)


@pytest.mark.parametrize("options", [{}, {"batch_norm": True}])
def test_fifty_updates_are_those_of_the_plain_loop(options):
    batches = split_in_batches(np.tile(np.arange(600), 6), 64)[:50]
    rates = np.linspace(0.1, 0.01, 50)
    losses = trainer(fresh(**options)).train(PIXELS, LABELS, batches, rates)
    model = fresh(**options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=False)
    for batch, rate, loss in zip(batches, rates, losses, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        plain = nn.functional.cross_entropy(model(PIXELS[batch].float() / 255), LABELS[batch])
        plain.backward()
        optimizer.step()
        assert loss == pytest.approx(plain.item(), abs=1e-4)
    assert losses[-5:].mean() < losses[:5].mean()


def gradients_of(batch_norm, micro_batch):
    model = fresh(batch_norm=batch_norm)
    ours = trainer(model, precision="float64", micro_batch=micro_batch, learning_rate=1.0, momentum=0.0)
    before = [parameter.detach().clone() for parameter in ours.model.parameters()]
    loss = ours.train(PIXELS, LABELS, [np.arange(96)], [1.0])
    after = ours.model.parameters()
    return loss[0], torch.cat([(a - b).flatten() for a, b in zip(before, after, strict=True)]).detach()


@pytest.mark.parametrize("micro_batch", [32, 40])  # the second leaves a smaller part at the end
def test_micro_batches_add_up_to_the_large_batch_without_batch_norm(micro_batch):
    loss, gradient = gradients_of(False, None)
    added_loss, added = gradients_of(False, micro_batch)
    assert added_loss == pytest.approx(loss, rel=1e-12)
    torch.testing.assert_close(added, gradient, rtol=1e-9, atol=1e-13)


def test_with_batch_norm_they_do_not_and_by_how_much():
    _, gradient = gradients_of(True, None)
    _, added = gradients_of(True, 32)
    difference = (added - gradient).norm() / gradient.norm()
    assert 0.05 < difference < 1.0


def follow(kind, device=CPU, graphs=True, model=LeNet5, **options):
    """Train in batches of several sizes, evaluating and measuring gradients in between; return losses and weights."""
    torch.manual_seed(0)
    network = model(**({"batch_norm": True} if model is LeNet5 else {}))
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # its masks are the device's own
    ours = kind(network, device, scale, learning_rate=0.02, largest_shift=3, micro_batch=64, **options)
    ours._graphs = ours._graphs if graphs else None
    pixels, labels = PIXELS.to(device), LABELS.to(device)
    losses = []
    for number in range(5):
        order = np.random.default_rng(number).permutation(600)
        batches = np.split(order, [64, 128, 152, 216, 280, 344, 408, 472, 536])  # the last: 64
        losses += list(ours.train(pixels, labels, batches, np.linspace(0.02, 0.01, 10)))
        losses.append(ours.evaluate(pixels, labels)[0])
        losses.append(float(ours.gradient(pixels, labels, torch.arange(40)).norm()))
        losses += list(ours.train(pixels, labels, [order[:200]], [0.01]))
    weights = torch.cat([value.flatten().double() for value in ours.model.state_dict().values()])
    return np.array(losses), weights.cpu()


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@needs_gpu
@pytest.mark.parametrize("model", [LeNet5, MiniGoogLeNet])
def test_captured_passes_are_the_plain_ones(model):
    plain, captured = (follow(Trainer, torch.device("cuda"), graphs, model) for graphs in (False, True))
    np.testing.assert_allclose(captured[0], plain[0], atol=1e-4)
    torch.testing.assert_close(captured[1], plain[1], rtol=1e-2, atol=1e-3)


@needs_gpu
def test_a_captured_pass_draws_new_dropout_masks_and_takes_new_rates():
    torch.manual_seed(0)
    cuda = torch.device("cuda")
    ours = Trainer(LeNet5(dropout=EVERYWHERE), cuda, scale, learning_rate=1e-9)
    pixels, labels = PIXELS.to(cuda), LABELS.to(cuda)
    losses = ours.train(pixels, labels, [np.arange(64)] * 6, [1e-9] * 6)
    assert len(set(losses)) == 6
    before = [parameter.detach().clone() for parameter in ours.model.parameters()]
    ours.train(pixels, labels, [np.arange(64)], [0.1])
    moved = max(float((a - b).abs().max()) for a, b in zip(before, ours.model.parameters(), strict=True))
    assert moved > 1e-4


def test_evaluation_is_without_dropout_and_with_running_statistics(monkeypatch):
    monkeypatch.setitem(EVALUATION_BATCH, "cpu", 250)
    ours = trainer(fresh(batch_norm=True, dropout=EVERYWHERE))
    ours.train(PIXELS, LABELS, [np.arange(64)] * 3, [0.05] * 3)
    loss, accuracy = ours.evaluate(PIXELS, LABELS)
    model = ours.model.eval()
    with torch.no_grad():
        logits = model(PIXELS.float() / 255)
    assert loss == pytest.approx(nn.functional.cross_entropy(logits, LABELS).item(), rel=1e-5)
    assert accuracy == pytest.approx((logits.argmax(1) == LABELS).float().mean().item())
    assert ours.evaluate(PIXELS, LABELS) == (loss, accuracy)


def test_half_precision_follows_single_precision():
    losses = {}
    for precision in ("float32", "bfloat16"):
        ours = trainer(fresh(MiniGoogLeNet), precision=precision, learning_rate=0.01)
        losses[precision] = ours.train(PIXELS, LABELS, [np.arange(16)] * 3, [0.01] * 3)
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.1)
    assert np.all(losses["bfloat16"] != losses["float32"])


def test_augmentation_is_numpys():
    images = torch.tensor(RNG.normal(size=(40, 2, 9, 7)))
    draws = torch.tensor(np.stack([RNG.integers(-3, 4, 40), RNG.integers(-3, 4, 40), RNG.integers(0, 2, 40)], axis=1))
    moved = shift_and_flip(images, draws, 3)
    for image, (down, right, mirror), result in zip(images.numpy(), draws.numpy(), moved.numpy(), strict=True):
        padded = np.pad(image, ((0, 0), (3, 3), (3, 3)), mode="edge")
        expected = padded[:, 3 - down : 12 - down, 3 - right : 10 - right]
        np.testing.assert_array_equal(result, expected[:, :, ::-1] if mirror else expected)


def test_augmentation_draws_every_shift_and_leaves_evaluation_alone():
    ours = trainer(fresh(), largest_shift=3)
    draws = ours._draws(4000)
    assert draws[:, :2].unique().tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert draws[:, 2].double().mean() == pytest.approx(0.5, abs=0.05)
    assert ours.evaluate(PIXELS, LABELS) == ours.evaluate(PIXELS, LABELS)


@given(st.integers(1, 200), st.integers(0, 200))
def test_batches_are_whole_and_disjoint(n, batch_size):
    order = np.random.default_rng(n).permutation(n)
    if not 1 <= batch_size <= n:
        with pytest.raises(ValueError, match=f"batch size is {batch_size}; .* {n} training images"):
            split_in_batches(order, batch_size)
        return
    batches = split_in_batches(order, batch_size)
    assert all(len(batch) == batch_size for batch in batches) and n - len(batches) * batch_size < batch_size
    assert list(np.concatenate(batches)) == list(order[: len(batches) * batch_size])


def test_a_last_batch_of_one_image_joins_the_one_before_or_is_refused():
    assert batch_sizes(129, 64).tolist() == [64, 65] and batch_sizes(130, 64).tolist() == [64, 64, 2]
    ours = trainer(fresh(batch_norm=True), micro_batch=64)
    losses = ours.train(PIXELS, LABELS, np.split(np.arange(129), [64]), [0.05] * 2)  # 65: 64 and 1, or 65 at once
    whole = trainer(fresh(batch_norm=True)).train(PIXELS, LABELS, np.split(np.arange(129), [64]), [0.05] * 2)
    assert losses == pytest.approx(whole)
    with pytest.raises(ValueError, match="a batch has one image"):
        ours.train(PIXELS, LABELS, [np.arange(64), np.arange(1)], [0.05] * 2)
    assert len(trainer(fresh()).train(PIXELS, LABELS, [np.arange(1)], [0.05])) == 1  # without batch norm it may be


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_have_no_accuracy(bad):
    """Argmax takes NaN for the largest entry, so that a network of NaN would be right about one class."""
    model = fresh()
    with torch.no_grad():
        model.output.weight[3, 5] = bad
    loss, accuracy = trainer(model).evaluate(PIXELS, torch.full((600,), 3))
    assert np.isnan(loss) and np.isnan(accuracy)
