"""The assignment's class CNN for TensorFlow 2, every method kept, with normalization in its forward pass.

conv 5x5, 30 filters, padding 2 -> relu -> max-pool 2x2 -> affine -> relu -> affine; weights N(0, 0.1^2), biases zero.
The normalization stands at the convolution and at the first affine layer, before the ReLU or after it:

    none, batch, layer, weight                    written by hand in `norms`
    keras_batch, keras_layer, tfp_weight          the same from Keras and TensorFlow Probability

    model = CNN(100, 10, normalization="batch")
    model.backward(images, one_hot_labels)        one training step
    accuracy_function(model.compute_output(images), one_hot_labels)
"""

import tensorflow as tf

from ist597_norms import norms
from ist597_norms.references import EPS, MOMENTUM, library_layer

BY_HAND = ("none", "batch", "layer", "weight")
TWINS = {"batch": "keras_batch", "layer": "keras_layer", "weight": "tfp_weight"}  # of ours, the library's
NORMALIZATIONS = (*BY_HAND, *TWINS.values())
POSITIONS = ("before", "after")  # the ReLU
WINDOW, FILTERS, PADDING, POOL = 5, 30, 2, 2  # the provided file's
WEIGHT_DEVIATION = 0.1  # likewise
UNIT_AXES = ((0, 1, 2), (0,))  # the axes of a unit's weights in W1 and in W2
SMALLEST_PROBABILITY = 1e-30  # whose logarithm is taken for that of zero
EVALUATION_BATCH = 1000  # the whole training set at once would take several GiB


class CNN:
    """A convolutional network on images (n, h, w, c), with `hidden_size` units and `output_size` classes."""

    def __init__(
        self,
        hidden_size: int,
        output_size: int,
        device: str | None = None,
        *,
        normalization: str = "none",
        position: str = "before",
        image_shape: tuple[int, int, int] = (28, 28, 1),
        learning_rate: float = 0.01,
        eps: float = EPS,
        momentum: float = MOMENTUM,
        seed: int = 1234,
        dtype: tf.DType = tf.float32,
    ):
        """Draw the weights; learning_rate and seed are by default the provided file's.

        Raises ValueError for an unknown normalization or position, and for sizes, eps, momentum or a learning rate
        that make no network.
        """
        for name, value, known in (("normalization", normalization, NORMALIZATIONS), ("position", position, POSITIONS)):
            if value not in known:
                raise ValueError(f"{name} {value!r} is unknown; choose from {', '.join(known)}")
        sizes = {"hidden_size": hidden_size, "output_size": output_size}
        for name, number in (sizes | {"learning_rate": learning_rate, "eps": eps}).items():
            if not number > 0:
                raise ValueError(f"{name} is {number}; it must be positive")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum is {momentum}; it must lie between 0 and 1")
        if len(image_shape) != 3 or min(image_shape[:2]) < POOL:
            raise ValueError(f"image_shape is {image_shape}; it must be (height, width, channels), {POOL} or more high")
        dtype = tf.as_dtype(dtype)
        if dtype not in (tf.float32, tf.float64):
            raise ValueError(f"dtype is {dtype.name}; choose float32 or float64")
        self.device, self.normalization, self.position = device, normalization, position
        self.eps, self.momentum, self.dtype, self.image_shape = eps, momentum, dtype, image_shape
        height, width, channels = image_shape
        generator = tf.random.Generator.from_seed(seed)

        def draw(*shape):
            # In float64 first, so that float32 and float64 networks of one seed start from the same numbers.
            return tf.Variable(tf.cast(generator.normal(shape, stddev=WEIGHT_DEVIATION, dtype=tf.float64), dtype))

        self.W1 = draw(WINDOW, WINDOW, channels, FILTERS)
        self.W2 = draw((height // POOL) * (width // POOL) * FILTERS, hidden_size)
        self.W3 = draw(hidden_size, output_size)
        self.b1, self.b2, self.b3 = self._constants(0.0, ((FILTERS,), (hidden_size,), (output_size,)))
        self.variables = [self.W1, self.b1, self.W2, self.b2, self.W3, self.b3]
        self.moving: list[tf.Variable] = []  # running statistics: part of the state, but not trained
        self._add_normalization((height, width, FILTERS), hidden_size)
        self.optimizer = tf.keras.optimizers.SGD(learning_rate)  # kept: rebuilding it would reset its state
        self.optimizer.build(self.variables)
        self._step = tf.function(self._train_step)
        self._infer = tf.function(self.forward)

    def _constants(self, value, shapes):
        return tuple(tf.Variable(tf.fill(shape, tf.cast(value, self.dtype))) for shape in shapes)

    def _add_normalization(self, convolved, hidden_size):
        """Make the parameters of the normalization at the convolution ([0]) and at the first affine layer ([1])."""
        kind, shapes = self.normalization, (convolved, (hidden_size,))
        if kind in ("batch", "layer"):
            features = (convolved[-1:], (hidden_size,)) if kind == "batch" else shapes
            self.gamma, self.beta = self._constants(1.0, features), self._constants(0.0, features)
            self.variables += [*self.gamma, *self.beta]
            if kind == "batch":
                self.moving_mean, self.moving_variance = self._constants(0.0, features), self._constants(1.0, features)
                self.moving = [*self.moving_mean, *self.moving_variance]
        elif kind == "weight":
            # W1 and W2 are the paper's v; g starts at ||v||, so that the network starts as the one without.
            lengths = norms.unit_norms(self.W1, UNIT_AXES[0]), norms.unit_norms(self.W2, UNIT_AXES[1])
            self.g = (tf.Variable(lengths[0]), tf.Variable(lengths[1]))
            self.variables += self.g
        elif kind != "none":
            self._add_twins(kind, shapes)

    def _add_twins(self, kind, shapes):
        """Make the library's layers, whose parameters train instead of, or beside, those of the provided file."""
        norm = {twin: ours for ours, twin in TWINS.items()}[kind]
        choices = {"eps": self.eps, "momentum": self.momentum, "dtype": self.dtype.name}
        convolution = library_layer(norm, 4, units=FILTERS, window=WINDOW, **choices)
        affine = library_layer(norm, 2, units=shapes[1][0], **choices)
        self.twins = (convolution, affine)
        inputs = (self.image_shape, self.W2.shape[:1]) if norm == "weight" else shapes
        convolution.build((None, *inputs[0]))
        affine.build((None, *inputs[1]))
        if norm == "weight":
            for twin, v, axes in zip(self.twins, (self.W1, self.W2), UNIT_AXES, strict=True):
                twin.v.assign(v)
                twin.g.assign(norms.unit_norms(v, axes))
            # In the order of ours; in the place of W1, b1 and W2, b2 the twins have their own.
            trained = [convolution.v, convolution.layer.bias, affine.v, affine.layer.bias]
            self.variables = [*trained, self.W3, self.b3, convolution.g, affine.g]
            return
        for pair in zip(convolution.trainable_variables, affine.trainable_variables, strict=True):
            self.variables += [variable.value for variable in pair]
        for pair in zip(convolution.non_trainable_variables, affine.non_trainable_variables, strict=True):
            self.moving += [variable.value for variable in pair]

    def start_from_data(self, X: tf.Tensor) -> None:
        """Set g and b of weight normalization: for the images X (n, h, w, c) both layers give mean 0 and deviation 1.

        One layer after the other, as Salimans and Kingma (2016, section 3) do it. Raises ValueError for another
        normalization and for images of another shape.
        """
        if self.normalization != "weight":
            raise ValueError(f"normalization is {self.normalization!r}; a start from data is weight normalization's")
        self._check_images(X)
        X = tf.cast(X, self.dtype)
        g, b = norms.weight_norm_init(self.W1, self.convolution(X, self.W1, 0.0, PADDING, 1), axes=UNIT_AXES[0])
        self.g[0].assign(g)
        self.b1.assign(b)
        X = self._pooled_rows(self._hidden(X, 0, training=False)[0])
        g, b = norms.weight_norm_init(self.W2, self.affine(X, self.W2, 0.0), axes=UNIT_AXES[1])
        self.g[1].assign(g)
        self.b2.assign(b)

    def flatten(
        self,
        X: tf.Tensor,
        window_h: int,
        window_w: int,
        window_c: int,
        out_h: int,
        out_w: int,
        stride: int = 1,
        padding: int = 0,
    ) -> tf.Tensor:
        """Return the windows of X (n, h, w, c) as rows, (n * out_h * out_w, window_h * window_w * window_c): im2col."""
        X = tf.pad(X, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
        windows = tf.image.extract_patches(
            X, [1, window_h, window_w, 1], [1, stride, stride, 1], rates=[1, 1, 1, 1], padding="VALID"
        )
        return tf.reshape(windows, [-1, window_h * window_w * window_c])

    def convolution(self, X: tf.Tensor, W: tf.Tensor, b: tf.Tensor, padding: int, stride: int) -> tf.Tensor:
        """Return the convolution (n, out_h, out_w, filters) of X (n, h, w, c) with W (h, w, c, filters), plus b.

        Equal to flatten(X, ...) @ W, reshaped, without forming the rows, which would take three times as long.
        """
        # Padded first: conv2d's own explicit padding takes a slower kernel on a CPU (a step of 14 ms instead of 8).
        X = tf.pad(X, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
        return tf.nn.conv2d(X, W, stride, "VALID") + b

    def relu(self, X: tf.Tensor) -> tf.Tensor:
        """Return max(X, 0), elementwise."""
        return tf.nn.relu(X)

    def max_pool(self, X: tf.Tensor, pool_h: int, pool_w: int, padding: int, stride: int) -> tf.Tensor:
        """Return the maxima (n, out_h, out_w, c) over windows of X (n, h, w, c), which is first padded with zeros."""
        X = tf.pad(X, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
        return tf.nn.max_pool2d(X, [pool_h, pool_w], stride, "VALID")

    def affine(self, X: tf.Tensor, W: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """Return X (n, in) times W (in, out), plus b (out,)."""
        return X @ W + b

    def softmax(self, X: tf.Tensor) -> tf.Tensor:
        """Return the probabilities (n, classes) of logits X; each row's own maximum is subtracted first."""
        exponentials = tf.exp(X - tf.reduce_max(X, axis=-1, keepdims=True))
        return exponentials / tf.reduce_sum(exponentials, axis=-1, keepdims=True)

    def cross_entropy_error(self, yhat: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Return the mean over examples of -log of the probability that yhat (n, classes) gives the one-hot y.

        Raises ValueError for half precision, in which the least probability would be zero and its logarithm infinite.
        """
        yhat = tf.convert_to_tensor(yhat)
        if yhat.dtype.size < tf.float32.size:
            raise ValueError(f"yhat is {yhat.dtype.name}; choose float32 or float64")
        of_class = tf.reduce_sum(yhat * y, axis=-1)
        return -tf.reduce_mean(tf.math.log(tf.maximum(of_class, SMALLEST_PROBABILITY)))

    def forward(self, X: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the logits (n, classes) of images X (n, h, w, c); in training with the minibatch's own statistics."""
        return self._layers(X, training)[0]

    def active_shares(self, X: tf.Tensor) -> list[float]:
        """Return the shares of positive outputs of the ReLU at the convolution and at the first affine layer.

        NaN where an output is not finite.
        """
        _, *rectified = self._layers(X, training=False)
        shares = []
        for outputs in rectified:
            finite = tf.reduce_all(tf.math.is_finite(outputs))
            shares.append(float(tf.reduce_mean(tf.cast(outputs > 0, tf.float64))) if finite else float("nan"))
        return shares

    def _layers(self, X, training):
        """Return the logits, and the outputs of the two ReLUs."""
        X, first = self._hidden(X, 0, training)
        X, second = self._hidden(self._pooled_rows(X), 1, training)
        return self.affine(X, self.W3, self.b3), first, second

    def _pooled_rows(self, X):
        """Return the convolution's outputs (n, h, w, FILTERS) pooled, a row (pooled,) for each image."""
        return tf.reshape(self.max_pool(X, POOL, POOL, 0, POOL), [-1, self.W2.shape[0]])

    def _hidden(self, X, index, training):
        """Return the output of the convolution (index 0) or affine layer (1), and of its ReLU: one, or normalized."""
        X = self._linear(X, index)
        if self.position == "before":
            rectified = self.relu(self._normalize(X, index, training))
            return rectified, rectified
        rectified = self.relu(X)
        return self._normalize(rectified, index, training), rectified

    def _linear(self, X, index):
        if self.normalization == "tfp_weight":
            return self.twins[index](X)
        W, b = ((self.W1, self.b1), (self.W2, self.b2))[index]
        if self.normalization == "weight":
            W = norms.weight_norm(W, self.g[index], axes=UNIT_AXES[index])
        return self.affine(X, W, b) if index else self.convolution(X, W, b, PADDING, 1)

    def _normalize(self, X, index, training):
        kind, last = self.normalization, X.shape.rank - 1
        if kind in ("batch", "layer"):
            gamma, beta = self.gamma[index], self.beta[index]
        if kind == "batch":
            moving_mean, moving_variance = self.moving_mean[index], self.moving_variance[index]
            if not training:
                return norms.batch_norm_inference(X, gamma, beta, moving_mean, moving_variance, eps=self.eps)
            z, mean, variance = norms.batch_norm(X, gamma, beta, axes=tuple(range(last)), eps=self.eps)
            moving_mean.assign(norms.update_moving(moving_mean, mean, momentum=self.momentum))
            moving_variance.assign(norms.update_moving(moving_variance, variance, momentum=self.momentum))
            return z
        if kind == "layer":
            return norms.layer_norm(X, gamma, beta, axes=tuple(range(1, last + 1)), eps=self.eps)
        if kind == "keras_batch":
            return self.twins[index](X, training=training)
        if kind == "keras_layer":
            return self.twins[index](X)
        return X

    def loss(self, y_pred: tf.Tensor, y_true: tf.Tensor) -> tf.Tensor:
        """Return the mean cross-entropy of logits y_pred (n, classes) and one-hot y_true, without forming softmax."""
        shifted = y_pred - tf.reduce_max(y_pred, axis=-1, keepdims=True)
        log_sum = tf.math.log(tf.reduce_sum(tf.exp(shifted), axis=-1))
        return tf.reduce_mean(log_sum - tf.reduce_sum(shifted * y_true, axis=-1))

    def backward(self, X_train: tf.Tensor, y_train: tf.Tensor) -> tf.Tensor:
        """Take one step of SGD on images (n, h, w, c) and one-hot labels (n, classes); return the loss before it.

        Raises ValueError for images or labels of another shape, and for a single image in training with batch
        normalization, whose affine layer then has one value for each feature and no variance.
        """
        self._check_images(X_train)
        one_hot = (len(X_train), self.b3.shape[0])
        if tuple(y_train.shape) != one_hot:
            raise ValueError(f"y_train has shape {tuple(y_train.shape)}; it must be one-hot, {one_hot}")
        if len(X_train) == 1 and self.normalization in ("batch", "keras_batch"):
            raise ValueError("batch normalization cannot train on a batch of 1: a single value has no variance")
        with tf.device(self.device):
            return self._step(tf.cast(X_train, self.dtype), tf.cast(y_train, self.dtype))

    def _check_images(self, X):
        if tuple(X.shape[1:]) != tuple(self.image_shape) or len(X) == 0:
            raise ValueError(f"the images have shape {tuple(X.shape)}; they must be (n, *{tuple(self.image_shape)})")

    def _train_step(self, X, y):
        with tf.GradientTape() as tape:
            loss = self.loss(self.forward(X, training=True), y)
        gradients = tape.gradient(loss, self.variables)
        self.optimizer.apply_gradients(zip(gradients, self.variables, strict=True))
        return loss

    def compute_output(self, X: tf.Tensor) -> tf.Tensor:
        """Return the logits (n, classes) of images X at test time, computed a thousand images at a time.

        They are NaN where a parameter is not finite: max-pooling would lose a NaN on the way. Raises ValueError for
        images of another shape.
        """
        self._check_images(X)
        with tf.device(self.device):
            parts = [X[i : i + EVALUATION_BATCH] for i in range(0, len(X), EVALUATION_BATCH)]
            logits = tf.concat([self._infer(tf.cast(part, self.dtype)) for part in parts], axis=0)
        finite = all(bool(tf.reduce_all(tf.math.is_finite(value))) for value in [*self.variables, *self.moving])
        return logits if finite else tf.fill(logits.shape, tf.cast(float("nan"), self.dtype))


def accuracy_function(yhat: tf.Tensor, true_y: tf.Tensor) -> tf.Tensor:
    """Return the share of rows whose largest entry in yhat (n, classes) is where the one-hot true_y has its one.

    NaN where an entry of yhat is not finite: argmax would take NaN for a class.
    """
    correct = tf.equal(tf.argmax(yhat, axis=1), tf.argmax(true_y, axis=1))
    finite = tf.reduce_all(tf.math.is_finite(yhat))
    return tf.where(finite, tf.reduce_mean(tf.cast(correct, tf.float32)), float("nan"))
