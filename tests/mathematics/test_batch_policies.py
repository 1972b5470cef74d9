"""Cyclical batch sizes: the analogue of a cyclical rate, each sample once an epoch, bs-scheduler's CyclicBS."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from coms6998_hw2.problem_4 import batch_policies as policies
from coms6998_hw2.problem_4.batch_policies import cyclical_batch_size, sizes_by_epoch


def test_it_starts_at_the_largest_batch_and_dips_to_the_smallest_in_the_middle_of_the_cycle():
    sizes = [cyclical_batch_size(n, b_min=64, b_max=1024, cycle=1000) for n in (0, 250, 500, 750, 1000)]
    assert sizes == [1024, 256, 64, 256, 1024]  # halfway in log2


def test_the_amplitude_shrinks_towards_the_largest_batch_or_the_smallest():
    choices = {"b_min": 64, "b_max": 1024, "cycle": 1000, "decay": 0.5 ** (1 / 1000)}
    growing = [cyclical_batch_size(n, **choices) for n in (500, 1500, 9500)]
    shrinking = [cyclical_batch_size(n, **choices, trajectory="shrinking") for n in (0, 500, 1500, 9500)]
    assert 64 < growing[0] < growing[1] < growing[2] < 1024 and growing[2] > 1000
    assert shrinking[0] == 64 and 1024 > shrinking[1] > shrinking[2] > shrinking[3] and shrinking[3] < 70


def test_linear_cycles_are_bs_schedulers():
    scheduler = pytest.importorskip("bs_scheduler")

    class Manager(scheduler.BatchSizeManager):
        size = 512

        def get_current_batch_size(self):
            return self.size

        def set_batch_size(self, new_bs):
            self.size = new_bs

    theirs = scheduler.CyclicBS(
        None,
        base_batch_size=512,
        min_batch_size=32,
        step_size_down=40,
        mode="exp_range",
        gamma=0.995,
        batch_size_manager=Manager(),
        max_batch_size=512,
    )
    for n in range(1, 300):
        theirs.step()
        ours = cyclical_batch_size(n, b_min=32, b_max=512, cycle=80, decay=0.995, interpolation="arithmetic")
        assert abs(ours - theirs.batch_size) <= 1, n  # they cut off where we round


@pytest.mark.parametrize(
    ("trajectory", "by_hand"),
    [
        # 1 / B goes from 1/8 to 1/2 and back in 32 samples: after 8, 11 and 14 it is 0.3125, 0.3828 and 0.4531.
        ("growing", [8, 3, 3, 2, 2, 2, 2, 3, 3, 4]),  # the last takes what is left
        ("shrinking", [2, 2, 2, 3, 3, 5, 7, 3, 3, 2]),
    ],
)
def test_a_harmonic_cycle_by_hand(trajectory, by_hand):
    choices = {"b_min": 2, "b_max": 8, "cycle": 32, "trajectory": trajectory, "interpolation": "harmonic"}
    (sizes,) = sizes_by_epoch(lambda seen: cyclical_batch_size(seen, **choices), images=32, epochs=1)
    assert sizes.tolist() == by_hand


def test_the_decay_of_a_harmonic_cycle_by_hand():
    """At the peaks, 16 and 48 samples, the amplitude 3/8 is multiplied by 0.5^0.5 and by 0.5^1.5."""
    choices = {"b_min": 2, "b_max": 8, "cycle": 32, "decay": 0.5 ** (1 / 32), "interpolation": "harmonic"}
    growing = [cyclical_batch_size(seen, **choices) for seen in (16, 48)]
    shrinking = [cyclical_batch_size(seen, **choices, trajectory="shrinking") for seen in (16, 48)]
    assert growing == [3, 4]  # 1 / 0.3902, 1 / 0.2576
    assert shrinking == [4, 3]  # 1 / 0.2348, 1 / 0.3674


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(0, 200),
    st.integers(60, 400),
    st.integers(1, 900),
    st.integers(1, 16),
    st.sampled_from(policies.TRAJECTORIES),
)
def test_the_sizes_of_an_epoch_add_up_to_all_images(b_min, more, images, cycle, multiple, trajectory):
    b_max = b_min + more
    assume(b_max <= images and b_max // multiple * multiple >= b_min)  # the others are refused, see below
    choices = {"b_min": b_min, "b_max": b_max, "cycle": cycle, "trajectory": trajectory, "multiple": multiple}
    epochs = sizes_by_epoch(lambda seen: cyclical_batch_size(seen, **choices), images, epochs=3)
    for sizes in epochs:
        assert sizes.sum() == images
        assert max(sizes) <= b_max + 1  # one more than b_max: a sample that would be left alone
        assert min(sizes[:-1], default=b_min) >= b_min
        assert b_max == 1 or sizes[-1] > 1 or b_min == 1


def test_sizes_go_on_counting_from_epoch_to_epoch():
    epochs = sizes_by_epoch(lambda n: 10 if n < 250 else 50, images=100, epochs=4)
    assert [sizes.sum() for sizes in epochs] == [100] * 4
    assert list(epochs[2]) == [10] * 5 + [50] and list(epochs[3]) == [50, 50]


GOOD = {"b_min": 8, "b_max": 32, "cycle": 100}


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: cyclical_batch_size(0, **{**GOOD, "b_min": 64}), "from 64 to 32"),
        (lambda: cyclical_batch_size(0, **{**GOOD, "b_min": 0}), "from 0 to 32"),
        (lambda: cyclical_batch_size(0, **{**GOOD, "cycle": 0}), "a cycle is 0 samples"),
        (lambda: cyclical_batch_size(0, **GOOD, trajectory="up"), "'up'.*growing, shrinking"),
        (lambda: cyclical_batch_size(0, **GOOD, interpolation="log"), "'log'.*geometric, arithmetic, harmonic"),
        (lambda: cyclical_batch_size(0, **GOOD, decay=1.01), "decay is 1.01"),
        (lambda: cyclical_batch_size(0, **GOOD, decay=0), "decay is 0"),
        (lambda: cyclical_batch_size(0, **GOOD, multiple=0), "multiples of 0"),
        (lambda: cyclical_batch_size(0, **GOOD, multiple=33), "multiples of 33.*b_max, 32"),
        (lambda: cyclical_batch_size(0, b_min=9, b_max=15, cycle=100, multiple=8), "none lies between b_min, 9, and"),
        (lambda: sizes_by_epoch(lambda n: 200, 100, 1), "a batch of 200; there are 100"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()


def test_no_size_is_below_b_min_whatever_the_multiple():
    sizes = [cyclical_batch_size(n, b_min=90, b_max=300, cycle=100, multiple=64) for n in range(100)]
    assert min(sizes) == 128 and max(sizes) == 256


def test_a_single_sample_left_over_joins_the_batch_before():
    (sizes,) = sizes_by_epoch(lambda n: 64, images=129, epochs=1)
    assert sizes.tolist() == [64, 65]
