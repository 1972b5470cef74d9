"""How many threads TensorFlow computes on: one, in a process that shares the machine with others.

one_thread_each()      before TensorFlow computes anything
"""

import tensorflow as tf


def one_thread_each() -> None:
    """Let TensorFlow compute on one thread: the sweep uses the other cores, and sums do not depend on their number.

    Raises TensorFlow's RuntimeError where it has already started with more.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        if tf.config.threading.get_intra_op_parallelism_threads() != 1:
            raise
