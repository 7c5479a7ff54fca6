"""What the benchmark computes, without a server: `/usr/bin/python3 -m pytest tests/bench`."""
import pytest

import figures
from figures import Spread


@pytest.mark.parametrize("values, share, expected", [
    ([1], 0.5, 1), ([1, 2], 0.5, 1), ([1, 2, 3], 0.5, 2), (list(range(1, 101)), 0.99, 99), (list(range(1, 101)), 1.0, 100), ([5, 6], 0.0, 5)])
def test_a_percentile_is_a_value_that_was_measured(values, share, expected):
    assert figures.percentile(values, share) == expected


def test_there_is_no_percentile_of_nothing():
    with pytest.raises(ValueError):
        figures.percentile([], 0.5)


def test_a_ratio_is_taken_round_by_round():
    # The machine was half as fast in the second round: that is in neither ratio.
    assert figures.ratio([100, 50, 90], [50, 25, 60]) == Spread(2.0, 1.5, 2.0)


def test_a_round_that_only_one_of_both_has_is_left_out():
    assert figures.difference([10, 20, 99], [1, 2]) == Spread(13.5, 9, 18)
    with pytest.raises(ValueError):
        figures.ratio([], [1])
