"""What the IST597 report says, asserted from the committed summaries."""

from claims import summary

PROOF, NORMS, COST = summary("p1_check_gradients"), summary("p1_compare_norms"), summary("bench_norms")


def test_no_difference_beside_rounding():
    for references in PROOF["float64"]["max_relative_difference"].values():
        for reference, quantities in references.items():
            for value in quantities.values():
                if reference != "differences":
                    assert value < 1e-10


def test_nor_in_training():
    for name, row in PROOF["trajectory"].items():
        if "float64" in name:
            assert row["largest"] < 1e-10


def test_ours_and_the_librarys_are_as_accurate():
    for row in NORMS["against_twin"].values():
        assert abs(row["mean"]) < 0.001 and row["low"] < 0 < row["high"]


def test_every_seed_of_batch_and_layer_is_ahead_of_none():
    for mode in ("batch", "layer"):
        assert NORMS["least_gain"][mode] > 0


def test_with_the_provided_step_the_differences_are_small():
    for row in NORMS["against_none"].values():
        assert abs(row["mean"]) < 0.01


def test_the_step_matters_more_than_the_normalization():
    assert min(row["gain_of_the_step"] for row in NORMS["tuned"].values()) > 2 * max(
        row["minus_none"]["mean"] for row in NORMS["tuned"].values()
    )


def test_of_the_gains_at_the_best_steps_only_layers_is_resolved():
    assert NORMS["tuned"]["layer"]["minus_none"]["low"] > 0
    for mode in ("batch", "weight"):
        assert NORMS["tuned"][mode]["minus_none"]["low"] < 0 < NORMS["tuned"][mode]["minus_none"]["mean"]


def test_the_data_dependent_start_helps_at_the_provided_step():
    assert NORMS["data_start"]["provided"]["minus_usual"]["low"] > 0
    assert NORMS["data_start"]["provided"]["minus_none"]["low"] > 0


def test_at_its_best_step_it_is_resolved_from_none_only():
    assert NORMS["data_start"]["tuned"]["minus_none"]["low"] > 0
    assert NORMS["data_start"]["tuned"]["minus_usual"]["low"] < 0 < NORMS["data_start"]["tuned"]["minus_usual"]["high"]
    assert min(NORMS["protocol"]["rates"]) < NORMS["data_start"]["learning_rate"] < 1


def test_beyond_it_the_plain_networks_relus_are_dead():
    assert max(NORMS["tuned"]["none"]["active_beyond"][0]) < 0.001
    assert NORMS["tuned"]["layer"]["active_beyond"][0][1] < 0.001
    assert NORMS["tuned"]["weight"]["active_beyond"] == [[None, None]]


def test_batch_and_layer_normalization_learn_at_steps_at_which_the_others_do_not():
    largest = {mode: row["largest_that_learns"] for mode, row in NORMS["tuned"].items()}
    assert min(largest["batch"], largest["layer"]) > max(largest["none"], largest["weight"])
    assert largest["batch"] == max(NORMS["protocol"]["rates"])
    for row in NORMS["tuned"].values():
        assert min(NORMS["protocol"]["rates"]) < row["learning_rate"] < 3


def test_the_first_seed_alone_would_have_put_batch_normalization_first():
    assert NORMS["tuned"]["batch"]["first_seed_minus_none"] > 1.9 * NORMS["tuned"]["batch"]["minus_none"]["mean"]
    assert NORMS["tuned"]["batch"]["first_seed_minus_none"] > NORMS["tuned"]["layer"]["first_seed_minus_none"]
    assert NORMS["tuned"]["batch"]["minus_none"]["mean"] < NORMS["tuned"]["layer"]["minus_none"]["mean"]


def test_at_the_provided_step_layer_normalization_is_resolved_from_none():
    assert NORMS["against_none"]["layer"]["low"] > 0 > NORMS["against_none"]["batch"]["low"]


def test_layer_and_batch_normalization_are_not_told_apart():
    for key in ("layer_against_batch", "tuned_layer_against_batch"):
        assert NORMS[key]["low"] < 0 < NORMS[key]["high"]


def test_batch_norm_after_the_relu_is_the_best_at_the_provided_step():
    assert NORMS["after"]["batch"]["minus_none"]["low"] > 0
    assert NORMS["after"]["batch"]["test_accuracy"]["mean"] > max(
        row["mean"] for row in [*NORMS["test_accuracy"].values(), NORMS["after"]["layer"]["test_accuracy"]]
    )


def test_after_the_relu_is_more_accurate_at_the_provided_step():
    for row in NORMS["after"].values():
        assert row["minus_before"]["low"] > 0


def test_before_the_relu_about_half_of_the_affine_layer_is_active():
    for mode in ("batch", "layer"):
        assert 0.45 < NORMS["active"][mode]["last"][1]["mean"] < 0.55


def test_after_it_layer_normalization_leaves_fewer():
    assert NORMS["after"]["layer"]["active"]["last"][1]["high"] < 0.42


def test_layer_normalization_wins_at_two_images_and_at_four():
    for size in ("2", "4"):
        assert NORMS["batch_size"][size]["layer_minus_batch"]["low"] > 0


def test_none_is_ahead_of_it_at_eight_images_and_fewer():
    for size in ("1", "2", "4", "8"):
        assert NORMS["batch_size"][size]["none_minus_layer"]["mean"] > 0


def test_which_two_images_alone_do_not_resolve():
    resolved = {size: NORMS["batch_size"][size]["none_minus_layer"]["low"] > 0 for size in ("1", "2", "4", "8")}
    assert resolved == {"1": True, "2": False, "4": True, "8": True}


def test_nothing_shows_that_units_of_the_plain_network_die():
    assert 0.45 < NORMS["active"]["none"]["last"][1]["mean"] < 0.55


def test_and_does_not_from_8_images_on():
    for size in ("8", "16", "64", "256"):
        lead = NORMS["batch_size"][size]["layer_minus_batch"]
        assert lead["low"] < 0 < lead["high"]


def test_its_accuracy_hardly_depends_on_the_batch_size():
    means = [row["layer"]["mean"] for row in NORMS["batch_size"].values()]
    assert max(means) - min(means) < 0.01


def test_a_fixed_momentum_is_a_fault_at_256_images():
    assert NORMS["batch_size"]["256"]["batch_fixed"]["high"] < NORMS["batch_size"]["256"]["batch"]["low"]


def test_layer_costs_less_than_kerass_batch_as_much_weight_more_than_tensorflow_probabilitys():
    layer, batch, weight = (COST["over_library"][norm] for norm in ("layer", "batch", "weight"))
    assert layer["high"] < 1 and batch["low"] < 1 < batch["high"] and weight["low"] > 1
