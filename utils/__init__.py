"""What every script shares: flags, data sets, records, figures; no mathematics that an assignment asks for."""

import os

# What notebooks export and other projects are told to set must not reach the libraries that are imported after this.
os.environ["MPLBACKEND"] = "Agg"  # no display is used
os.environ["TF_USE_LEGACY_KERAS"] = "0"  # Keras 3 is what the norms are compared with
os.environ["KERAS_BACKEND"] = "tensorflow"
