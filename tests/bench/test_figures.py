"""Medians, ratios of pairs, and numbers as they are printed."""

import doctest

import pytest

from bench import figures


def test_a_spread_is_the_median_with_the_least_and_the_most():
    found = figures.spread([5.0, 1.0, 4.0])

    assert figures.Spread(4.0, 1.0, 5.0) == found
    assert "4.00 (1.00-5.00)" == str(found)


def test_one_value_has_no_spread():
    assert "1,234" == str(figures.spread([1234.4]))


def test_ratios_are_of_each_pair_so_a_slow_moment_counts_in_neither():
    # the machine was half as fast in the second round
    found = figures.ratios([(100.0, 90.0), (50.0, 45.0)])

    assert figures.Spread(0.9, 0.9, 0.9) == found


def test_differences_are_of_each_pair():
    assert figures.Spread(15.0, 10.0, 20.0) == figures.differences([(100.0, 110.0), (200.0, 220.0)])


def test_nothing_measured_is_no_figure():
    with pytest.raises(ValueError, match="no median"):
        figures.spread([])


def test_the_examples_hold():
    assert 0 == doctest.testmod(figures).failed
