"""Problem 1 against scikit-learn, numeric integration and Novikoff's theorem."""

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Perceptron, SGDClassifier
from sklearn.svm import LinearSVC

from coms6998_hw2.p1_perceptron import (
    by_pass,
    describe_curve,
    exact_accuracy,
    far_away,
    maximum_margin,
    predict,
    sample,
    train,
)


def passes(n, count, rng):
    return np.stack([rng.permutation(n) for _ in range(count)])


@pytest.mark.parametrize(
    ("a", "reference"),
    [
        (0.0, Perceptron(fit_intercept=False, eta0=0.5)),
        (1.0, SGDClassifier(loss="hinge", alpha=0.0, fit_intercept=False, learning_rate="constant", eta0=0.5)),
    ],
)
def test_the_same_updates_in_the_same_order_as_scikit_learn(a, reference):
    rng = np.random.default_rng(1)
    x, y = sample(20, rng)
    orders = passes(20, 3, rng)
    order = orders.ravel()
    for done, i in enumerate(order, 1):
        reference.partial_fit(x[[i]], y[[i]], classes=[-1.0, 1.0])
        # A budget that ends after each point in turn: a single differing update would show at once.
        w, _, _ = train(x[None], y[None], a, learning_rate=0.5, orders=order[None, :done], w=np.zeros((1, 2)))
        np.testing.assert_allclose(w[0], reference.coef_[0], atol=1e-12)
    assert np.abs(w).sum() > 0


def test_all_sets_at_once_are_each_set_alone():
    rng = np.random.default_rng(2)
    sets = [sample(20, rng) for _ in range(7)]
    x, y = (np.stack(part) for part in zip(*sets, strict=True))
    orders = passes(20, 50, rng)
    together = train(x, y, 1.0, learning_rate=1.0, orders=orders, w=np.zeros((7, 2)))
    for k in range(7):
        alone = train(x[[k]], y[[k]], 1.0, learning_rate=1.0, orders=orders, w=np.zeros((1, 2)))
        np.testing.assert_array_equal(alone[0][0], together[0][k])
        np.testing.assert_array_equal(alone[1][0], together[1][k])


@pytest.mark.parametrize("a", [0.0, 1.0])
def test_a_converged_loss_is_zero_and_an_unconverged_one_is_not(a):
    rng = np.random.default_rng(3)
    x, y = (np.stack(part) for part in zip(*[sample(20, rng) for _ in range(100)], strict=True))
    w, _, converged = train(x, y, a, learning_rate=1.0, orders=passes(20, 30, rng), w=np.zeros((100, 2)))
    loss = np.maximum(0, a - y * np.einsum("rd,rnd->rn", w, x)).sum(axis=1)
    assert (loss[converged] == 0).all() and converged.any()
    if a == 1.0:
        assert (~converged).any() and (loss[~converged] > 0).any()


def test_mistakes_never_exceed_novikoffs_bound():
    rng = np.random.default_rng(4)
    sets = [sample(n, rng) for n in (5, 20, 100) for _ in range(50)]
    for x, y in sets:
        orders = passes(len(x), 3000, rng)
        _, updates, converged = train(x[None], y[None], 0.0, learning_rate=1.0, orders=orders, w=np.zeros((1, 2)))
        margin = 1 / np.linalg.norm(maximum_margin(x, y))
        assert converged[0] and updates.sum() <= np.max(np.sum(x**2, axis=1)) / margin**2


def test_maximum_margin_agrees_with_a_linear_svm():
    rng = np.random.default_rng(5)
    for _ in range(5):
        x, y = sample(20, rng)
        w = maximum_margin(x, y)
        assert np.min(y * (x @ w)) == pytest.approx(1, rel=1e-12)  # the length is that of the inverse margin
        reference = LinearSVC(C=1e5, loss="hinge", fit_intercept=False, max_iter=1_000_000, tol=1e-8).fit(x, y).coef_[0]
        np.testing.assert_allclose(w / np.linalg.norm(w), reference / np.linalg.norm(reference), atol=2e-3)


DIRECTIONS = [(np.cos(t), np.sin(t)) for t in np.linspace(0, 2 * np.pi, 8, endpoint=False) + 0.2]
DEGENERATE = [(1, -1), (-1, 1), (1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, -1), (0, 0), (1e-9, -1), (3, -1e-9)]


@pytest.mark.parametrize("w", DIRECTIONS + DEGENERATE)
def test_exact_accuracy_against_numeric_integration(w):
    w = np.array(w, dtype=float)
    m = 2000
    centers = (np.arange(m) + 0.5) / m
    grid = np.stack(np.meshgrid(centers, centers - 0.25 / m), axis=-1).reshape(-1, 2)  # off the diagonal
    truth = np.where(grid[:, 0] > grid[:, 1], 1.0, -1.0)
    integral = np.mean(predict(w[None], grid)[0] == truth)
    assert exact_accuracy(w) == pytest.approx(integral, abs=2e-3)


def test_exact_accuracy_takes_any_shape():
    w = np.random.default_rng(7).normal(size=(3, 4, 2))
    assert exact_accuracy(w).shape == (3, 4) and exact_accuracy(w)[1, 2] == exact_accuracy(w[1, 2])


def test_points_that_no_line_separates_have_no_maximum_margin():
    x, y = np.array([[1.0, 0.0], [2.0, 0.0], [0.5, 1.0]]), np.array([1.0, -1.0, 1.0])
    with pytest.warns(ConvergenceWarning), pytest.raises(ValueError, match="no line through the origin"):
        maximum_margin(x, y)


@pytest.mark.parametrize("a", [0.0, 1.0])
def test_training_that_is_taken_up_again_is_training_in_one_go(a):
    rng = np.random.default_rng(7)
    sets = [sample(20, rng) for _ in range(6)]
    x, y = np.stack([x for x, _ in sets]), np.stack([y for _, y in sets])
    orders, watched = passes(20, 12, rng), [1, 3, 12]
    parts = list(by_pass(x, y, a, learning_rate=1.0, orders=orders, passes=watched))
    for n, (w, _) in zip(watched, parts, strict=True):
        whole, updates, _ = train(x, y, a, learning_rate=1.0, orders=orders[:n], w=np.zeros((6, 2)))
        np.testing.assert_array_equal(w, whole)
    np.testing.assert_array_equal(sum(part for _, part in parts), updates)


def test_which_points_made_an_update_and_which_are_far_away_by_hand():
    """From w = 0 the first point moves w to itself, (0.2, 0.1); the second then has 0.2 < 1 and the third 0.02."""
    x, y = np.array([[0.2, 0.1], [0.9, 0.2], [0.1, 0.0]]), np.ones(3)
    w, updates, _ = train(x[None], y[None], 0.0, learning_rate=1.0, orders=np.arange(3)[None], w=np.zeros((1, 2)))
    assert updates.tolist() == [[1, 0, 0]] and w.tolist() == [[0.2, 0.1]]
    _, updates, _ = train(x[None], y[None], 1.0, learning_rate=1.0, orders=np.arange(3)[None], w=np.zeros((1, 2)))
    assert updates.tolist() == [[1, 1, 1]]
    # The first and the third are each other's mirror images at the diagonal; the second is 2.5 times as far from it.
    x, y = np.array([[0.7, 0.5], [1.0, 0.5], [0.5, 0.7]]), np.array([1.0, 1.0, -1.0])
    assert far_away(x, y).tolist() == [False, True, False]


def test_the_far_points_share_is_that_of_the_updates_and_nothing_where_none_was_made():
    counts = {"updates_since": [8, 0], "updates_far_away": [2, 0]}
    row = pd.Series({"watched": [1, 2], "accuracy_after": [[0.5, 0.7], [1.0, 1.0]], **counts})
    numbers = describe_curve(row)
    assert numbers["far_share"][0] == 0.25 and np.isnan(numbers["far_share"][1])
    assert [interval["mean"] for interval in numbers["accuracy"]] == pytest.approx([0.6, 1.0])
