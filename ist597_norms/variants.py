"""The networks that problem 1 compares: how each is called and drawn, and in what its runs differ.

VARIANTS["batch_after"].label        "batch, after"
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from utils import plotting

COLORS = {"none": plotting.BLACK, "batch": plotting.BLUE, "layer": plotting.VERMILION, "weight": plotting.GREEN}
MARKERS = {"none": "o", "batch": "s", "layer": "^", "weight": "D"}  # beside the colors, for gray print


class Variant(NamedTuple):
    """How a network is called and drawn, its CNN's normalization, in what else its runs differ, and their part."""

    label: str
    color: str
    line: str
    mode: str
    change: Mapping[str, str] = MappingProxyType({})
    part: str = "protocol"


# A normalization with its place or its start; figures and report read what they need from the summary.
VARIANTS = {
    "none": Variant("none", COLORS["none"], "-", "none"),
    "batch": Variant("batch", COLORS["batch"], "-", "batch"),
    "batch_after": Variant("batch, after", COLORS["batch"], "--", "batch", {"position": "after"}, "after"),
    "layer": Variant("layer", COLORS["layer"], "-", "layer"),
    "layer_after": Variant("layer, after", COLORS["layer"], "--", "layer", {"position": "after"}, "after"),
    "weight": Variant("weight", COLORS["weight"], "-", "weight"),
    "weight_data_start": Variant(
        "weight, data start", COLORS["weight"], ":", "weight", {"start": "data"}, "data start"
    ),
}
OF_LIBRARIES = {
    "keras_batch": Variant("batch (Keras)", COLORS["batch"], "-", "keras_batch"),
    "keras_layer": Variant("layer (Keras)", COLORS["layer"], "-", "keras_layer"),
    "tfp_weight": Variant("weight (TFP)", COLORS["weight"], "-", "tfp_weight"),
}
