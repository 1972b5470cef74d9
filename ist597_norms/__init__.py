"""IST597, assignment #01000: normalization written in basic TensorFlow operations."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's `utils`, whatever lies beside
import utils  # noqa: F401  before Keras is imported: it settles which one
