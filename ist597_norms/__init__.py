"""IST597, assignment #01000: normalization written in basic TensorFlow operations."""
