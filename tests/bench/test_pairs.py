"""A contender beside its reference."""

from bench.measures.requests import cpu_parts
from bench.pairs import Pairs

PAIRS = Pairs(
    reference="direct",
    of={
        "ours": [
            ({"per_s@32": 100.0}, {"per_s@32": 90.0, "cpu_us@32:HAProxy": 50.0}),
            ({"per_s@32": 80.0}, {"per_s@32": 76.0, "cpu_us@32:app": 150.0}),
        ],
        "theirs": [({"per_s@32": 120.0}, {})],
    },
    without={"nobody": "it did not start"},
)


def test_a_pair_needs_both_sides():
    assert [(100.0, 90.0), (80.0, 76.0)] == PAIRS.figure("ours", "per_s@32")
    assert [] == PAIRS.figure("theirs", "per_s@32")


def test_the_reference_is_measured_beside_everybody():
    assert [100.0, 80.0, 120.0] == PAIRS.own("direct", "per_s@32")


def test_a_contender_that_could_not_be_measured_has_a_row_too():
    assert ["direct", "ours", "theirs", "nobody"] == PAIRS.names()


def test_a_process_that_took_nothing_in_a_round_counts_as_nothing():
    parts = cpu_parts(PAIRS, "ours", 32)

    assert {"app": [0.0, 150.0], "HAProxy": [50.0, 0.0]} == parts
    assert ["app", "HAProxy"] == list(parts)
