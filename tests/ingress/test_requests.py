"""How long requests took: a table, and a story on a clock of its own."""

import pytest

from homeport.ingress.requests import WINDOW_S, Durations, Requests


@pytest.mark.parametrize(
    ("values", "median", "high"),
    [
        ([7], 7, 7),
        (range(1, 101), 50, 99),
        ([1] * 98 + [5000, 5001], 1, 5000),
        ([1234, 1299], 1200, 1200),
        ([0, 0, 0], 0, 0),
    ],
)
def test_quantiles_are_of_what_was_seen(values, median, high):
    durations = Durations(0.0)
    for value in values:
        durations.add(value, 0.0)

    assert (median, high) == (durations.quantile(0.5, 0.0), durations.quantile(0.99, 0.0))


def test_the_past_is_forgotten_after_two_windows():
    now = [0.0]
    requests = Requests(None, clock=lambda: now[0])
    requests.take("10 200 hello")
    assert (10, 10) == requests.quantiles_ms("hello")
    now[0] = WINDOW_S + 1
    requests.take("30 200 hello")
    assert (10, 30) == requests.quantiles_ms("hello")
    now[0] = 2 * WINDOW_S + 1
    assert (30, 30) == requests.quantiles_ms("hello")
    now[0] = 9 * WINDOW_S
    assert requests.quantiles_ms("hello") is None


@pytest.mark.parametrize(
    "line", ["", "x", "-1 400 -", "5 404 -", "5 404 ", "nonsense of some kind"]
)
def test_what_is_no_request_is_let_be(line):
    requests = Requests(None)
    requests.take(line)

    assert requests.quantiles_ms("-") is None
    assert requests.quantiles_ms("kind") is None
