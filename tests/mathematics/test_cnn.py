"""The class CNN: the provided file's methods, every parameter trained, twins alike, running statistics at test time."""

import inspect

import numpy as np
import pytest
import tensorflow as tf

from ist597_norms import norms
from ist597_norms.cnn import CNN, NORMALIZATIONS, POSITIONS, accuracy_function
from ist597_norms.p1_check_gradients import matching
from ist597_norms.references import TWINS, network

RNG = np.random.default_rng(0)
IMAGES = RNG.random((8, 28, 28, 1)).astype("float32")
LABELS = np.eye(10, dtype="float32")[RNG.integers(0, 10, 8)]

# The provided file's methods and their parameters; ours may only add optional ones.
PROVIDED = {
    "__init__": ["self", "hidden_size", "output_size", "device"],
    "flatten": ["self", "X", "window_h", "window_w", "window_c", "out_h", "out_w", "stride", "padding"],
    "convolution": ["self", "X", "W", "b", "padding", "stride"],
    "relu": ["self", "X"],
    "max_pool": ["self", "X", "pool_h", "pool_w", "padding", "stride"],
    "affine": ["self", "X", "W", "b"],
    "softmax": ["self", "X"],
    "cross_entropy_error": ["self", "yhat", "y"],
    "forward": ["self", "X"],
    "loss": ["self", "y_pred", "y_true"],
    "backward": ["self", "X_train", "y_train"],
    "compute_output": ["self", "X"],
}


@pytest.mark.parametrize("method", PROVIDED)
def test_every_provided_method_is_kept(method):
    parameters = list(inspect.signature(getattr(CNN, method)).parameters.values())
    names = [parameter.name for parameter in parameters]
    assert names[: len(PROVIDED[method])] == PROVIDED[method]
    assert all(parameter.default is not inspect.Parameter.empty for parameter in parameters[len(PROVIDED[method]) :])


def test_accuracy_function_keeps_its_parameters():
    assert list(inspect.signature(accuracy_function).parameters) == ["yhat", "true_y"]
    yhat = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], dtype="float32")
    assert accuracy_function(yhat, np.eye(2)[[1, 0, 0]]).numpy() == pytest.approx(2 / 3)


def test_the_networks_size_is_the_provided_files():
    assert sum(int(tf.size(v)) for v in CNN(100, 10).variables) == 589_890


@pytest.mark.parametrize(("stride", "padding"), [(1, 2), (2, 0), (3, 1)])
def test_convolution_is_the_product_of_the_flattened_windows(stride, padding):
    model = CNN(4, 2, image_shape=(8, 8, 1))
    x, w = tf.constant(RNG.normal(size=(2, 9, 11, 3))), tf.constant(RNG.normal(size=(3, 5, 3, 4)))
    b = tf.constant(RNG.normal(size=4))
    convolved = model.convolution(x, w, b, padding, stride)
    rows = model.flatten(x, 3, 5, 3, *convolved.shape[1:3], stride, padding)
    product = tf.reshape(rows @ tf.reshape(w, [-1, 4]), convolved.shape) + b
    np.testing.assert_allclose(convolved, product, atol=1e-12)


def test_the_small_parts_against_tensorflow():
    model = CNN(4, 2, image_shape=(8, 8, 1))
    logits = tf.constant([[1000.0, -1000.0, 0.0], [-3.0, 2.0, 0.5]])  # a global maximum would turn row two into 0 / 0
    np.testing.assert_allclose(model.softmax(logits), tf.nn.softmax(logits), rtol=1e-6)
    y = tf.constant([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    expected = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(y, logits))
    np.testing.assert_allclose(model.loss(logits, y), expected, rtol=1e-6)
    yhat = tf.nn.softmax(logits / 100)
    np.testing.assert_allclose(
        model.cross_entropy_error(yhat, y), tf.reduce_mean(tf.keras.losses.categorical_crossentropy(y, yhat)), rtol=1e-5
    )
    assert np.isfinite(model.cross_entropy_error(tf.constant([[1.0, 0.0]]), tf.constant([[0.0, 1.0]])))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_no_class(bad):
    """The first class is the one that argmax takes NaN for."""
    one_hot = tf.constant([[1.0, 0.0], [1.0, 0.0]])
    assert float(accuracy_function(tf.constant([[2.0, 1.0], [0.0, 1.0]]), one_hot)) == 0.5
    assert np.isnan(accuracy_function(tf.constant([[2.0, 1.0], [bad, 1.0]]), one_hot))
    model = CNN(20, 10)
    model.b1.assign_add(tf.fill((30,), bad))
    assert np.isnan(accuracy_function(model.compute_output(IMAGES), LABELS))


@pytest.mark.parametrize("normalization", ["none", "batch", "layer", "weight"])
def test_a_single_parameter_that_is_not_finite_leaves_no_accuracy(normalization):
    """Whichever it is: max-pooling takes NaN for the least of all numbers."""
    names = range(len(CNN(20, 10, normalization=normalization).variables))
    for number in names:
        model = CNN(20, 10, normalization=normalization)
        variable = model.variables[number]
        variable.assign(tf.fill(variable.shape, float("nan")))
        try:
            accuracy = accuracy_function(model.compute_output(IMAGES), LABELS)
        except tf.errors.InvalidArgumentError as error:
            assert norms.NO_DIRECTION in error.message or norms.NOT_FINITE in error.message
        else:
            assert np.isnan(accuracy), variable.shape


def test_after_a_diverging_step_there_is_no_accuracy():
    model = CNN(20, 10, learning_rate=1e30)
    for _ in range(3):
        model.backward(IMAGES, LABELS)
    assert np.isnan(accuracy_function(model.compute_output(IMAGES), LABELS))


@pytest.mark.parametrize("mode", [*NORMALIZATIONS, *TWINS.values()])
@pytest.mark.parametrize("position", POSITIONS)
def test_every_parameter_moves_and_the_loss_falls(mode, position):
    model = network(mode, 20, 10, position=position, further_layers=1)
    before = [variable.numpy() for variable in model.variables]
    losses = [float(model.backward(IMAGES, LABELS)) for _ in range(15)]
    assert losses[-1] < losses[0]
    for variable, old in zip(model.variables, before, strict=True):
        # A bias in front of a batch norm has no gradient: its shift is taken out again.
        idle = position == "before" and "batch" in mode and any(variable is bias for bias in model.b)
        assert idle or np.abs(variable.numpy() - old).max() > 1e-7, variable.shape


@pytest.mark.parametrize("norm", TWINS)
@pytest.mark.parametrize("choices", [{}, {"eps": 1e-2, "momentum": 0.5, "position": "after", "sgd_momentum": 0.9}])
def test_ten_steps_leave_the_twins_alike(norm, choices):
    choices = {"dtype": tf.float64, "further_layers": 2, **choices}
    first, second = (network(mode, 20, 10, **choices) for mode in (norm, TWINS[norm]))
    for _ in range(10):
        np.testing.assert_allclose(first.backward(IMAGES, LABELS), second.backward(IMAGES, LABELS), rtol=1e-10)
    for ours, theirs in matching(first, second):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(first.compute_output(IMAGES), second.compute_output(IMAGES), rtol=1e-8)


def test_weight_normalization_starts_as_the_network_without():
    plain, weight = (CNN(20, 10, normalization=kind) for kind in ("none", "weight"))
    np.testing.assert_allclose(weight.compute_output(IMAGES), plain.compute_output(IMAGES), rtol=1e-4, atol=1e-5)


def test_at_test_time_an_image_does_not_depend_on_its_neighbors():
    model = CNN(20, 10, normalization="batch")
    for _ in range(3):
        model.backward(IMAGES, LABELS)
    together = model.compute_output(IMAGES).numpy()
    np.testing.assert_allclose(model.compute_output(IMAGES[:1])[0], together[0], rtol=1e-4, atol=1e-5)
    assert np.abs(model.forward(IMAGES, training=True).numpy() - together).max() > 1e-2


def test_evaluation_in_parts_is_evaluation_at_once(monkeypatch):
    model = CNN(20, 10)
    whole = model.compute_output(IMAGES)
    monkeypatch.setattr("ist597_norms.cnn.EVALUATION_BATCH", 3)
    np.testing.assert_allclose(model.compute_output(IMAGES), whole, rtol=1e-5, atol=1e-5)


def test_the_same_seed_is_the_same_network_in_both_precisions():
    single, double = (CNN(20, 10, seed=7, dtype=dtype) for dtype in (tf.float32, tf.float64))
    np.testing.assert_allclose(single.W2, double.W2, rtol=1e-6)
    assert np.abs(CNN(20, 10, seed=8).W2.numpy() - single.W2.numpy()).max() > 0.01
    assert single.W2.numpy().std() == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: CNN(4, 2, normalization="group"), "normalization 'group'.*none, batch, layer, weight"),
        (lambda: CNN(4, 2, dtype=tf.float16), "dtype is float16; choose float32 or float64"),
        (lambda: CNN(4, 2, position="inside"), "position 'inside'.*before, after"),
        (lambda: CNN(0, 10), "hidden_size is 0"),
        (lambda: CNN(4, -1), "output_size is -1"),
        (lambda: CNN(4, 2, eps=0), "eps is 0"),
        (lambda: CNN(4, 2, momentum=2), "momentum is 2"),
        (lambda: CNN(4, 2, sgd_momentum=-0.1), "sgd_momentum is -0.1"),
        (lambda: CNN(4, 2, further_layers=-1), "further_layers is -1"),
        (lambda: CNN(4, 2, image_shape=(28, 28)), r"image_shape is \(28, 28\)"),
        (lambda: CNN(4, 10).backward(IMAGES, LABELS.argmax(1)), r"y_train has shape \(8,\).*\(8, 10\)"),
        (lambda: CNN(4, 10).backward(IMAGES, LABELS[:1]), r"y_train has shape \(1, 10\)"),
        (lambda: CNN(4, 10).compute_output(IMAGES[:, :14]), r"images have shape \(8, 14, 28, 1\)"),
        (lambda: CNN(4, 10).compute_output(IMAGES[:0]), r"images have shape \(0, 28, 28, 1\)"),
        (lambda: CNN(4, 10, normalization="batch").backward(IMAGES[:1], LABELS[:1]), "batch of 1"),
        (lambda: CNN(4, 10, normalization="batch").start_from_data(IMAGES), "is 'batch'; a start from data is weight"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()


def test_a_start_from_data_gives_both_layers_mean_zero_and_deviation_one():
    """The paper's own demand (Salimans and Kingma 2016, section 3), and none of the gradient's path is broken by it."""
    model = CNN(100, 10, normalization="weight", further_layers=1)
    model.start_from_data(IMAGES[:4])  # whatever g and b were
    model.start_from_data(IMAGES)
    convolved = model.convolution(IMAGES, norms.weight_norm(model.W1, model.g[0]), model.b1, 2, 1)
    pooled = tf.reshape(tf.nn.max_pool2d(tf.nn.relu(convolved), 2, 2, "VALID"), [len(IMAGES), -1])
    hidden = pooled @ norms.weight_norm(model.W2, model.g[1]) + model.b2
    further = tf.nn.relu(hidden) @ norms.weight_norm(model.W[2], model.g[2]) + model.b[2]
    for outputs in (tf.reshape(convolved, [-1, 30]), hidden, further):
        np.testing.assert_allclose(tf.reduce_mean(outputs, axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(tf.math.reduce_std(outputs, axis=0), 1, rtol=1e-4)
    losses = [float(model.backward(IMAGES, LABELS)) for _ in range(20)]
    assert losses[-1] < losses[0]


def test_further_layers_leave_the_provided_networks_weights_as_they_are():
    shallow, deep = CNN(20, 10, seed=3), CNN(20, 10, seed=3, further_layers=2)
    for name in ("W1", "W2", "W3"):
        np.testing.assert_array_equal(getattr(deep, name), getattr(shallow, name))
    assert [tuple(W.shape) for W in deep.W[2:]] == [(20, 20), (20, 20)]
    hidden = tf.nn.relu(deep.relu_inputs(IMAGES)[1])
    for W, b in zip(deep.W[2:], deep.b[2:], strict=True):
        hidden = tf.nn.relu(hidden @ W + b)
    np.testing.assert_allclose(deep.forward(IMAGES), hidden @ deep.W3 + deep.b3, rtol=1e-5, atol=1e-5)


def test_a_relus_inputs_stand_on_the_right_side_of_the_normalization():
    """Layer normalization before the ReLU gives it inputs of mean zero and deviation one; after it, the next layer."""
    before, after = (CNN(20, 10, normalization="layer", position=position) for position in POSITIONS)
    inputs = before.relu_inputs(IMAGES)[1]
    np.testing.assert_allclose(tf.reduce_mean(inputs, 1), 0, atol=1e-5)
    np.testing.assert_allclose(tf.math.reduce_std(inputs, 1), 1, rtol=1e-2)
    convolved = after.convolution(IMAGES, after.W1, after.b1, 2, 1)
    np.testing.assert_allclose(after.relu_inputs(IMAGES)[0], convolved, rtol=1e-6)
    assert np.abs(tf.math.reduce_std(after.relu_inputs(IMAGES)[1], 1) - 1).max() > 1


def test_momentum_of_the_descent_remembers_the_steps_before():
    """After two equal gradients of the output's bias it has moved by 1 + (1 + momentum) steps."""
    model = CNN(20, 10, sgd_momentum=0.5, learning_rate=1e-6)
    plain = CNN(20, 10, learning_rate=1e-6)
    for _ in range(2):
        model.backward(IMAGES, LABELS)
        plain.backward(IMAGES, LABELS)
    np.testing.assert_allclose(model.b3 / plain.b3, 1.25, rtol=1e-3)
