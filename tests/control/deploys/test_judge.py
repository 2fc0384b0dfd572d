"""When a version is worse than another one: tables, and what holds for all counts."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.contract.recorded import ENDINGS
from homeport.contract.traffic import RequestRecord
from homeport.control.deploys import judge
from homeport.control.deploys.judge import Counts, Outcome, Pair, Starts

FAST = {10: 45, 12: 4, 30: 1}
SLOW = {400: 5}


def counts(requests: int, failed: int = 0, times: dict[int, int] | None = None) -> Counts:
    return Counts(requests=requests, failed=failed, times=Counter(times or {}))


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        (counts(45), counts(5, 5), "failed"),
        (counts(45), counts(4, 4), ""),  # too few to say
        (counts(45), counts(5, 1), ""),  # chance does that
        (counts(5), counts(5, 5), ""),
        (counts(7), counts(7, 7), "failed"),
        (counts(0), counts(50, 50), ""),  # there is nothing to compare with
        (counts(45, 45), counts(5, 5), ""),  # what both depend on has failed
        (counts(90, 9), counts(10, 2), ""),
        (counts(900, 9), counts(100, 20), "failed"),
        (counts(9_000_000, 9_000), counts(1_000_000, 1_500), ""),  # sure, but too little to matter
        (counts(50, 0, FAST), counts(5, 0, SLOW), "95th percentile"),
        (counts(50, 0, FAST), counts(5, 0, {10: 5}), ""),
        (counts(50, 0, FAST), counts(5, 0, {10: 4, 400: 1}), ""),  # chance does that
        (counts(50, 0, FAST), counts(50, 0, {10: 30, 400: 20}), "95th percentile"),
        (counts(1000, 0, {2: 1000}), counts(1000, 0, {5: 1000}), ""),  # nobody feels 3 ms
        (counts(1000, 0, {400: 1000}), counts(1000, 0, {500: 1000}), ""),  # not half as long again
        (counts(1000, 0, {400: 1000}), counts(1000, 0, {700: 1000}), "95th percentile"),
        (counts(19, 0, {10: 19}), counts(19, 0, {400: 19}), ""),  # the old one has too few
        (counts(50, 50, FAST), counts(5, 0, {10: 5}), ""),  # it is better
    ],
)
def test_a_table(old, new, word):
    reason = judge.worse("price", Pair(old=old, new=new), 1)

    assert bool(word) == bool(reason)
    assert word in reason
    assert not reason or reason.startswith("`price`: ")


def test_there_is_a_look_only_when_the_sample_has_grown():
    pair = Pair(old=counts(45), new=counts(5))
    assert "" == judge.worse("f", pair, 1)
    pair.new = counts(6, 6)
    assert "" == judge.worse("f", pair, 1), "no look between two sizes"
    pair.new = counts(7, 7)
    assert judge.worse("f", pair, 1)


def test_many_endpoints_share_the_probability_of_a_mistake():
    def pair():
        return Pair(old=counts(10), new=counts(10, 10))

    assert judge.worse("f", pair(), 1)
    assert not judge.worse("f", pair(), 300)


RECORD = RequestRecord(
    endpoint="web", method="GET", path="/", status=200, duration_ms=90, container="ta-1",
    parts_ms={"queued": 5, "app": 80},
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Outcome(failed=False, ms=80)),
        ({"parts_ms": {}}, Outcome(failed=False, ms=0)),
        ({"cold": True}, Outcome(failed=False, ms=None)),
        ({"status": 500}, Outcome(failed=True, ms=80)),
        ({"status": 404}, Outcome(failed=False, ms=80)),
        ({"status": 504, "ended": ENDINGS["s"]}, Outcome(failed=True, ms=80)),
        ({"ended": ENDINGS["S"]}, Outcome(failed=True, ms=80)),
        ({"status": 0, "ended": ENDINGS["C"]}, None),
        ({"ended": ENDINGS["C"]}, None),
        ({"ended": ENDINGS["c"], "status": 408}, None),
        ({"container": "", "status": 503}, Outcome(failed=True, ms=None)),
        ({"container": "", "status": 401}, None),
        ({"container": "", "status": 429}, None),
        ({"container": "", "status": 501}, None),
        ({"kind": "call"}, None),
    ],
)
def test_each_request_counts_by_how_it_ended(changes, expected):
    fields = {name: getattr(RECORD, name) for name in RequestRecord.__dataclass_fields__}

    assert expected == judge.outcome(RequestRecord(**{**fields, **changes}))


def test_containers_that_do_not_start():
    both = {"f": Starts(old=2, new=3), "g": Starts(old=0, new=1)}
    assert "" == judge.cannot_start(both), "the machine may be the cause, or a hiccup"
    assert "`g`" in judge.cannot_start({**both, "g": Starts(old=0, new=2)})


def test_at_the_end_a_version_of_which_most_requests_failed_is_not_promoted():
    assert judge.at_the_end({"f": Pair(old=counts(3), new=counts(3, 2))})
    assert not judge.at_the_end({"f": Pair(old=counts(3, 3), new=counts(3, 2))})
    assert not judge.at_the_end({"f": Pair(old=counts(3), new=counts(2, 1))})
    assert judge.at_the_end({"f": Pair(old=counts(5, 2), new=counts(5, 3))})
    assert judge.at_the_end({"f": Pair(old=counts(2, 1), new=counts(1, 1))}), "half is not most"
    assert not judge.at_the_end({"f": Pair(old=counts(5), new=counts(5, 2))})
    assert not judge.at_the_end({"f": Pair()}), "without any request nothing was wrong"


#: How many requests of a version failed, and how many there were.
COUNTS = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted)


@given(COUNTS, COUNTS)
def test_fishers_test_is_the_sum_of_the_hypergeometric_distribution(of_new, of_old):
    (new_hits, new), (old_hits, old) = of_new, of_old
    hits, total = new_hits + old_hits, new + old
    ways = sum(
        math.comb(hits, k) * math.comb(total - hits, new - k)
        for k in range(new_hits, min(hits, new) + 1)
    )

    expected = ways / math.comb(total, new)
    assert math.isclose(
        expected, judge.fisher(new_hits, new, old_hits, old), rel_tol=1e-6, abs_tol=1e-12
    )


@given(st.integers(5, 100_000), st.integers(0, 100_000))
def test_a_version_that_fails_no_more_than_the_other_is_never_rolled_back(requests, failed):
    failed = min(failed, requests)
    pair = Pair(old=counts(requests, failed), new=counts(requests, failed))

    assert "" == judge.worse("f", pair, 1)


@given(st.integers(1, 10**7))
def test_looks_are_few_and_their_mistakes_add_up_to_alpha(requests):
    looks = judge.looks(requests)

    assert looks <= judge.looks(requests + 1) <= looks + 1
    assert looks <= 70
    assert sum(1 / (k * (k + 1)) for k in range(1, looks + 1)) < 1


@settings(max_examples=20, derandomize=True)  # by chance, a few seeds in 1,000 do
@given(st.integers(0, 2**32), st.sampled_from([0.1, 0.5]), st.sampled_from([0.0, 0.03, 0.5]))
def test_noise_rolls_nothing_back(seed, share, failing):
    chance, pair = random.Random(seed), Pair()
    rolled_back = 0
    for _ in range(400):
        outcome = Outcome(failed=chance.random() < failing, ms=int(chance.lognormvariate(4, 1)))
        (pair.new if chance.random() < share else pair.old).add(outcome)
        rolled_back += bool(judge.worse("f", pair, 1))

    assert not rolled_back


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=200))
def test_a_quantile_is_one_of_the_times_with_two_digits(times):
    counted = Counts()
    for ms in times:
        counted.add(Outcome(failed=False, ms=ms))
    exact = sorted(times)[math.ceil(0.95 * len(times)) - 1]

    assert counted.quantile() <= exact <= counted.quantile() * 1.1 + 1
    assert len(times) == counted.requests == counted.times.total()
