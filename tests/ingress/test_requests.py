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
    requests = Requests(clock=lambda: now[0])
    requests.read("1 10 200 hello")
    assert (10, 10) == requests.quantiles_ms("hello")
    now[0] = WINDOW_S + 1
    requests.read("2 30 200 hello")
    assert (10, 30) == requests.quantiles_ms("hello")
    now[0] = 2 * WINDOW_S + 1
    assert (30, 30) == requests.quantiles_ms("hello")
    now[0] = 9 * WINDOW_S
    assert requests.quantiles_ms("hello") is None


def test_a_line_is_read_once_however_often_the_ring_is():
    requests = Requests(clock=lambda: 0.0)
    requests.read("1 10 200 hello\n2 10 200 hello\n")
    requests.read("1 10 200 hello\n2 10 200 hello\n3 30 200 hello\n4 30 200 hello\n5 30 200 hello")
    assert (30, 30) == requests.quantiles_ms("hello")
    requests.restart()  # another process counts anew
    requests.read("1 50 200 other")

    assert (50, 50) == requests.quantiles_ms("other")


def test_a_slow_request_counts_though_later_ones_have_overtaken_it():
    requests = Requests(clock=lambda: 0.0)
    early = "2 10 200 hello\n1 900 200 hello\n"
    requests.read(early)
    assert (10, 900) == requests.quantiles_ms("hello")
    requests.read(early + "12 5 200 hello\n3 5000 200 hello\n")

    assert 5000 == requests.quantiles_ms("hello")[1]


@pytest.mark.parametrize(
    "line", ["", "x", "1 -1 400 -", "1 5 404 -", "1 5 404 ", "a b c d", "nonsense"]
)
def test_what_is_no_request_is_let_be(line):
    requests = Requests()
    requests.read(line)

    assert requests.quantiles_ms("-") is None
    assert requests.quantiles_ms("d") is None
