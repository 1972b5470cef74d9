"""IST597, assignment #01000: normalization written in basic TensorFlow operations."""

import utils  # noqa: F401  before Keras is: it settles which Keras that is
