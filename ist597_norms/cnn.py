"""The file to hand in: the assignment's class CNN for TensorFlow 2, which calls `norms` in its forward pass.

The provided file is the course's Assignment4/CNN_assignment4.py (AnkurMali/IST597_Fall2019_TF2.0). All that it defines
is here under its name and with its parameters, to which optional ones were added: CNN with __init__, flatten,
convolution, relu, max_pool, affine, softmax, cross_entropy_error, forward, loss, backward and compute_output; and
accuracy_function. Three are kept but not called, flatten, softmax and cross_entropy_error: `convolution` makes no
windows, and `loss` is softmax and cross-entropy in one. The folder ist597_norms is handed in: this file imports
norms.py, and neither anything outside.

conv 5x5, 30 filters, padding 2 -> relu -> max-pool 2x2 -> affine -> relu -> affine; weights N(0, 0.1^2), biases zero.
The normalization stands at the convolution and at the first affine layer, before the ReLU or after it; for comparisons
the network can be made deeper, by further affine layers with the same normalization.

    model = CNN(100, 10, normalization="batch")
    model.backward(images, one_hot_labels)        one training step
    accuracy_function(model.compute_output(images), one_hot_labels)
"""

import tensorflow as tf

from ist597_norms import norms

NORMALIZATIONS = ("none", "batch", "layer", "weight")
POSITIONS = ("before", "after")  # the ReLU
EPS, MOMENTUM = 1e-3, 0.99  # Keras's defaults; the running statistics' momentum
WINDOW, FILTERS, PADDING, POOL = 5, 30, 2, 2  # the provided file's
WEIGHT_DEVIATION = 0.1  # likewise
SMALLEST_PROBABILITY = 1e-30  # whose logarithm is taken for that of zero
EVALUATION_BATCH = 1000  # the whole training set at once would take several GiB


class CNN:
    """A convolutional network on images (n, h, w, c), with `hidden_size` units and `output_size` classes.

    W, b: the weights and biases of the layers that can be normalized, the convolution's first. With weight
    normalization W holds the paper's v, which is its other name, and the weights are computed from v and g.
    """

    def __init__(
        self,
        hidden_size: int,
        output_size: int,
        device: str | None = None,
        *,
        normalization: str = "none",
        position: str = "before",
        further_layers: int = 0,
        image_shape: tuple[int, int, int] = (28, 28, 1),
        learning_rate: float = 0.01,
        sgd_momentum: float = 0.0,
        eps: float = EPS,
        momentum: float = MOMENTUM,
        seed: int = 1234,
        dtype: tf.DType = tf.float32,
    ):
        """Draw the weights; learning_rate and seed are by default the provided file's.

        Raises ValueError for an unknown normalization or position, and for sizes, eps, a momentum or a learning rate
        that make no network.
        """
        for name, value, known in (("normalization", normalization, NORMALIZATIONS), ("position", position, POSITIONS)):
            if value not in known:
                raise ValueError(f"{name} {value!r} is unknown; choose from {', '.join(known)}")
        sizes = {"hidden_size": hidden_size, "output_size": output_size}
        for name, number in (sizes | {"learning_rate": learning_rate, "eps": eps}).items():
            if not number > 0:
                raise ValueError(f"{name} is {number}; it must be positive")
        for name, number in {"momentum": momentum, "sgd_momentum": sgd_momentum}.items():
            if not 0 <= number <= 1:
                raise ValueError(f"{name} is {number}; it must lie between 0 and 1")
        if further_layers < 0:
            raise ValueError(f"further_layers is {further_layers}; it must be 0 or more")
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
        self.b1, self.b2, self.b3 = self._constants(0.0, [(FILTERS,), (hidden_size,), (output_size,)])
        further = [draw(hidden_size, hidden_size) for _ in range(further_layers)]  # between W2 and W3
        self.W = [self.W1, self.W2, *further]
        self.b = [self.b1, self.b2, *self._constants(0.0, [(hidden_size,)] * further_layers)]
        self.variables = [self.W1, self.b1, self.W2, self.b2, self.W3, self.b3, *further, *self.b[2:]]
        self.moving: list[tf.Variable] = []  # running statistics: part of the state, but not trained
        self._add_normalization([(height, width, FILTERS), *[(hidden_size,)] * (1 + further_layers)])
        self.optimizer = tf.keras.optimizers.SGD(learning_rate, momentum=sgd_momentum)  # kept, and with it its state
        self.optimizer.build(self.variables)
        self._step = tf.function(self._train_step)
        self._infer = tf.function(self.forward)

    def _constants(self, value, shapes):
        return [tf.Variable(tf.fill(shape, tf.cast(value, self.dtype))) for shape in shapes]

    def _add_normalization(self, shapes):
        """Make the parameters of the normalization of each layer; shapes: those of its outputs for one image."""
        if self.normalization in ("batch", "layer"):
            if self.normalization == "batch":
                shapes = [shape[-1:] for shape in shapes]
                self.moving_mean, self.moving_variance = self._constants(0.0, shapes), self._constants(1.0, shapes)
                self.moving = [*self.moving_mean, *self.moving_variance]
            self.gamma, self.beta = self._constants(1.0, shapes), self._constants(0.0, shapes)
            self.variables += [*self.gamma, *self.beta]
        elif self.normalization == "weight":
            self.v = self.W
            self.g = [tf.Variable(norms.unit_norms(v)) for v in self.v]  # so that it starts as the network without
            self.variables += self.g

    def start_from_data(self, X: tf.Tensor) -> None:
        """Set g and b of weight normalization: for the images X (n, h, w, c) its layers give mean 0, deviation 1.

        One layer after the other, as Salimans and Kingma (2016, section 3) do it. Raises ValueError for another
        normalization and for images of another shape.
        """
        if self.normalization != "weight":
            raise ValueError(f"normalization is {self.normalization!r}; a start from data is weight normalization's")
        self._check_images(X)
        X = tf.cast(X, self.dtype)
        for index, v in enumerate(self.v):
            preactivations = self.convolution(X, v, 0.0, PADDING, 1) if index == 0 else self.affine(X, v, 0.0)
            g, b = norms.weight_norm_init(v, preactivations)
            self.g[index].assign(g)
            self.b[index].assign(b)
            X = self._hidden(X, index, training=False)[0]

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
        """Return the windows of X (n, h, w, c) as rows, (n * out_h * out_w, window_h * window_w * window_c): im2col.

        How many there are follows from the other arguments; out_h and out_w are the provided file's.
        """
        X = tf.pad(X, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
        windows = tf.image.extract_patches(
            X, [1, window_h, window_w, 1], [1, stride, stride, 1], rates=[1, 1, 1, 1], padding="VALID"
        )
        return tf.reshape(windows, [-1, window_h * window_w * window_c])

    def convolution(self, X: tf.Tensor, W: tf.Tensor, b: tf.Tensor, padding: int, stride: int) -> tf.Tensor:
        """Return the convolution (n, out_h, out_w, filters) of X (n, h, w, c) with W (h, w, c, filters), plus b.

        Equal to flatten(X, ...) @ W, reshaped, without forming the rows.
        """
        # Padded first: conv2d's own explicit padding takes a slower kernel on a CPU.
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
        """Return the mean over examples of -log of the probability that yhat (n, classes) gives the one-hot y."""
        of_class = tf.reduce_sum(yhat * y, axis=-1)
        return -tf.reduce_mean(tf.math.log(tf.maximum(of_class, SMALLEST_PROBABILITY)))

    def forward(self, X: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the logits (n, classes) of images X (n, h, w, c); in training with the minibatch's own statistics."""
        for index in range(len(self.W)):
            X, _ = self._hidden(X, index, training)
        return self.affine(X, self.W3, self.b3)

    def relu_inputs(self, X: tf.Tensor) -> list[tf.Tensor]:
        """Return what the ReLU of each layer gets at test time from images X: (n, h, w, FILTERS), then (n, units)."""
        inputs = []
        for index in range(len(self.W)):
            X, relu_input = self._hidden(X, index, training=False)
            inputs.append(relu_input)
        return inputs

    def _hidden(self, X, index, training):
        """Return the outputs of a layer for the next one, and what its ReLU gets: index 0 is the convolution."""
        X = relu_input = self._linear(X, index)
        if self.position == "before":
            X = relu_input = self._normalize(X, index, training)
        X = self.relu(X)
        if self.position == "after":
            X = self._normalize(X, index, training)
        if index == 0:
            X = tf.reshape(self.max_pool(X, POOL, POOL, 0, POOL), [-1, self.W2.shape[0]])
        return X, relu_input

    def _linear(self, X, index):
        W = norms.weight_norm(self.v[index], self.g[index]) if self.normalization == "weight" else self.W[index]
        if index == 0:
            return self.convolution(X, W, self.b[index], PADDING, 1)
        return self.affine(X, W, self.b[index])

    def _normalize(self, X, index, training):
        if self.normalization == "layer":
            return norms.layer_norm(X, self.gamma[index], self.beta[index], eps=self.eps)
        if self.normalization != "batch":
            return X
        gamma, beta = self.gamma[index], self.beta[index]
        moving_mean, moving_variance = self.moving_mean[index], self.moving_variance[index]
        if not training:
            return norms.batch_norm_inference(X, gamma, beta, moving_mean, moving_variance, eps=self.eps)
        z, mean, variance = norms.batch_norm(X, gamma, beta, eps=self.eps)
        moving_mean.assign(norms.update_moving(moving_mean, mean, momentum=self.momentum))
        moving_variance.assign(norms.update_moving(moving_variance, variance, momentum=self.momentum))
        return z

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
        if len(X_train) == 1 and self.normalization == "batch":
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
