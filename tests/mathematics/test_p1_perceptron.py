"""Problem 1 against scikit-learn, numeric integration and Novikoff's theorem."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Perceptron, SGDClassifier
from sklearn.svm import LinearSVC

from coms6998_hw2.p1_perceptron import exact_accuracy, maximum_margin, predict, sample, train


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
        assert alone[1][0] == together[1][k]


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
        _, mistakes, converged = train(x[None], y[None], 0.0, learning_rate=1.0, orders=orders, w=np.zeros((1, 2)))
        margin = 1 / np.linalg.norm(maximum_margin(x, y))
        assert converged[0] and mistakes[0] <= np.max(np.sum(x**2, axis=1)) / margin**2


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
