"""How many containers a pool gets: a table, a story, and rules that always hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.control.fleet.autoscaler import Bounds, Peak, wanted


@pytest.mark.parametrize(
    ("expected", "bounds", "demand", "peak"),
    [
        (0, Bounds(), 0, 0),
        (1, Bounds(), 1, 1),
        (64, Bounds(), 64, 64),  # a burst is one decision, not sixty-four
        (7, Bounds(target_inputs=10), 64, 64),
        (3, Bounds(max_containers=3), 64, 64),
        (2, Bounds(min_containers=2), 0, 0),
        (0, Bounds(buffer_containers=2), 0, 0),  # a buffer is for a function in use
        (3, Bounds(buffer_containers=2), 1, 1),
        (4, Bounds(), 0, 4),  # what a burst needed stays for a window
    ],
)
def test_wanted_follows_demand_within_bounds(expected, bounds, demand, peak):
    assert expected == wanted(bounds, demand, peak)


def test_a_burst_leaves_when_its_window_has_passed():
    bounds = Bounds(scaledown_window_s=60)
    peak = Peak(60)
    story = [(0, 5, 5), (1, 0, 5), (59, 1, 5), (61, 0, 1), (119, 0, 1), (120, 0, 0)]
    told = [
        (at, demand, wanted(bounds, demand, peak.record(demand, at))) for at, demand, _ in story
    ]

    assert story == told


@given(
    st.integers(0, 50),
    st.one_of(st.none(), st.integers(0, 50)),
    st.integers(0, 10),
    st.integers(1, 100),
    st.integers(0, 5000),
    st.integers(0, 5000),
)
def test_wanted_is_always_within_bounds_and_enough(low, extra, buffer, target, demand, peak):
    high = None if extra is None else low + extra
    bounds = Bounds(
        min_containers=low, max_containers=high, buffer_containers=buffer, target_inputs=target
    )
    count = wanted(bounds, demand, peak)

    assert low <= count
    assert high is None or count <= high
    assert count * target >= demand or count == high


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 9)), max_size=60))
def test_a_peak_is_the_highest_sample_of_the_window(steps):
    peak, samples, now = Peak(5), [], 0.0
    for pause, demand in steps:
        now += pause
        samples.append((now, demand))

        assert max(d for at, d in samples if now - at <= 5) == peak.record(demand, now)


def test_a_peak_that_is_lowered_lasts_as_long_as_it_would_have():
    peak = Peak(10.0)
    for at, demand in ((0.0, 5), (2.0, 3), (4.0, 1)):
        peak.record(demand, at)
    peak.lower(3)

    assert [3, 3, 1, 0] == [peak.at(now) for now in (4.0, 12.0, 14.0, 14.1)]
    peak.record(2, 20.0)
    peak.lower(0)
    assert 0 == peak.at(20.0)
