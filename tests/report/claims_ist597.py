"""What the IST597 report says of its results, each sentence asserted from the committed summaries."""

from claims_problem_4 import summary

PROOF, NORMS, COST = (summary(stem) for stem in ("p1_check_gradients", "p1_compare_norms", "bench_norms"))

CLAIMS = {
    "no difference beside rounding": lambda: all(
        value < 1e-10
        for references in PROOF["float64"]["max_relative_difference"].values()
        for reference, quantities in references.items()
        for value in quantities.values()
        if reference != "differences"
    ),
    "nor in training": lambda: all(
        row["largest"] < 1e-10 for name, row in PROOF["trajectory"].items() if "float64" in name
    ),
    "ours and the library's are as accurate": lambda: all(
        abs(row["mean"]) < 0.001 for row in NORMS["against_twin"].values()
    ),
    "every seed of batch and layer is ahead of none": lambda: all(
        NORMS["least_gain"][mode] > 0 for mode in ("batch", "layer")
    ),
    "with the provided step the differences are small": lambda: all(
        abs(row["mean"]) < 0.01 for row in NORMS["against_none"].values()
    ),
    "the step matters more than the normalization": lambda: (
        min(row["gain_of_the_step"] for row in NORMS["tuned"].values())
        > 2 * max(row["minus_none"]["mean"] for row in NORMS["tuned"].values())
    ),
    "of the gains at the best steps only layer's is resolved": lambda: (
        NORMS["tuned"]["layer"]["minus_none"]["low"] > 0
        and all(
            NORMS["tuned"][mode]["minus_none"]["low"] < 0 < NORMS["tuned"][mode]["minus_none"]["mean"]
            for mode in ("batch", "weight")
        )
    ),
    "beyond it the plain network's ReLUs are dead": lambda: (
        max(NORMS["tuned"]["none"]["active_beyond"][0]) < 1e-3 > NORMS["tuned"]["layer"]["active_beyond"][0][1]
        and NORMS["tuned"]["weight"]["active_beyond"] == [[None, None]]
    ),
    "batch and layer normalization learn at steps at which the others do not": lambda: (
        {mode: row["largest_that_learns"] for mode, row in NORMS["tuned"].items()}
        == {"none": 0.3, "batch": 3.0, "layer": 1.0, "weight": 0.3}
        and all(min(NORMS["protocol"]["rates"]) < row["learning_rate"] < 3 for row in NORMS["tuned"].values())
    ),
    "the first seed alone would have put batch normalization first": lambda: (
        NORMS["tuned"]["batch"]["first_seed_minus_none"] > 1.9 * NORMS["tuned"]["batch"]["minus_none"]["mean"]
        and NORMS["tuned"]["batch"]["first_seed_minus_none"] > NORMS["tuned"]["layer"]["first_seed_minus_none"]
        and NORMS["tuned"]["batch"]["minus_none"]["mean"] < NORMS["tuned"]["layer"]["minus_none"]["mean"]
    ),
    "at the provided step layer normalization is resolved from none": lambda: (
        NORMS["against_none"]["layer"]["low"] > 0 > NORMS["against_none"]["batch"]["low"]
    ),
    "layer and batch normalization are not told apart": lambda: all(
        NORMS[key]["low"] < 0 < NORMS[key]["high"] for key in ("layer_against_batch", "tuned_layer_against_batch")
    ),
    "batch norm after the ReLU is the best at the provided step": lambda: (
        NORMS["after"]["batch"]["minus_none"]["low"] > 0
        and NORMS["after"]["batch"]["test_accuracy"]["mean"]
        > max(row["mean"] for row in [*NORMS["test_accuracy"].values(), NORMS["after"]["layer"]["test_accuracy"]])
    ),
    "after the ReLU is more accurate at the provided step": lambda: all(
        row["minus_before"]["low"] > 0 for row in NORMS["after"].values()
    ),
    "before the ReLU about half of the affine layer is active": lambda: all(
        0.45 < NORMS["active"][mode]["last"][1]["mean"] < 0.55 for mode in ("batch", "layer")
    ),
    "after it layer normalization leaves fewer": lambda: NORMS["after"]["layer"]["active"]["last"][1]["high"] < 0.42,
    "layer normalization wins at two images and at four": lambda: all(
        NORMS["batch_size"][size]["layer_minus_batch"]["low"] > 0 for size in ("2", "4")
    ),
    "none is ahead of it at eight images and fewer": lambda: all(
        NORMS["batch_size"][size]["none_minus_layer"]["mean"] > 0 for size in ("1", "2", "4", "8")
    ),
    "nothing shows that units of the plain network die": lambda: (
        0.45 < NORMS["active"]["none"]["last"][1]["mean"] < 0.55
    ),
    "and does not at 64 and 256": lambda: all(
        NORMS["batch_size"][size]["layer_minus_batch"]["low"]
        < 0
        < NORMS["batch_size"][size]["layer_minus_batch"]["high"]
        for size in ("64", "256")
    ),
    "its accuracy hardly depends on the batch size": lambda: (
        max(row["layer"]["mean"] for row in NORMS["batch_size"].values())
        - min(row["layer"]["mean"] for row in NORMS["batch_size"].values())
        < 0.01
    ),
    "a fixed momentum is a fault at 256 images": lambda: (
        NORMS["batch_size"]["256"]["batch_fixed"]["high"] < NORMS["batch_size"]["256"]["batch"]["low"]
    ),
    "ours cost less than Keras's, a little more than TensorFlow Probability's": lambda: (
        max(COST["over_library"][norm]["high"] for norm in ("batch", "layer"))
        < 1
        < COST["over_library"]["weight"]["low"]
        < COST["over_library"]["weight"]["high"]
        < 1.15
    ),
}

# What the text does not say, but what would make it doubtful: numerical limits.
CHECKS = {
    "1e-12 where nothing is subtracted": lambda: all(
        value < 1e-12
        for norm, references in PROOF["float64"]["max_relative_difference"].items()
        for reference in ("library", "torch")
        for quantity, value in references[reference].items()
        if norm == "weight" or quantity == "dbeta"
    ),
}
