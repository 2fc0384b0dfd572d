"""The chart of cold starts: what a bar shows, and that it fits."""

import doctest

import pytest

from homeport.cli import coldstarts
from homeport.cli.coldstarts import BAR, PARTS, bar, medians_ms, show, slowest_imports
from homeport.contract.api.coldstarts import ColdStart


def start(**changes):
    told = {
        "at": 0.0,
        "app": "app",
        "function": "hello",
        "container": "ta-0123456789ab",
        "revision": "rv",
        "origin": "forked",
        "why_fresh": "",
        "failed": "",
        "timings_ms": {"parked": 0.2, "forked": 1.0, "imported": 9.0, "listening": 6.0},
        "imports_ms": {},
        "total_ms": 16.2,
    }
    return ColdStart(**{**told, **changes})


def test_the_examples_in_the_docstrings_hold():
    assert 0 == doctest.testmod(coldstarts).failed


@pytest.mark.parametrize(
    ("timings_ms", "longest_ms", "drawn"),
    [
        ({}, 0.0, ""),
        ({"parked": 0.0}, 0.0, ""),
        ({"imported": 10.0}, 10.0, "i█████████"),
        ({"imported": 10.0}, 20.0, "i████"),
        ({"imported": 5.0, "entered": 5.0}, 10.0, "i████e▓▓▓▓"),
        ({"scheduled": 1.0, "forked": 1.0, "imported": 998.0}, 1000.0, "sfi███████"),
        ({"scheduled": 0.1, "forked": 0.1, "imported": 999.8}, 1000.0, "i█████████"),
        ({"imported": 30.0, "listening": 5.0, "first_byte": 2.0}, 1000.0, "ilb"),
    ],
)
def test_a_bar_shows_each_part_in_its_share_and_small_ones_by_their_letter(
    timings_ms, longest_ms, drawn
):
    assert drawn == bar(timings_ms, longest_ms, width=10).plain


def test_the_table_has_the_median_of_those_that_became_ready(capsys):
    show([start(total_ms=10.0), start(total_ms=30.0), start(failed="no", total_ms=900.0)])
    some = capsys.readouterr().out
    show([start(failed="no")])
    none = capsys.readouterr().out

    (total,) = [line for line in some.splitlines() if "that became ready" in line]
    assert ["total", "20.0", "ms", "of", "2"] == total.split()[:5]
    assert "that became ready" not in none


def test_no_two_parts_look_alike():
    for look in ("letter", "fill", "key"):
        assert len(PARTS) == len({getattr(part, look) for part in PARTS})


def test_medians_leave_out_what_is_not_known():
    starts = [start(timings_ms={"imported": n, **more}) for n, more in
              ((10.0, {}), (20.0, {"first_byte": 4.0}), (90.0, {}))]  # fmt: skip

    assert {"imported": 20.0, "first_byte": 4.0} == medians_ms(starts)


def test_the_slowest_imports_are_counted_over_all_starts():
    names = [{"torch": 900.0, "numpy": 80.0}, {"torch": 700.0}, {}]
    starts = [start(imports_ms=told) for told in names]

    assert [("torch", 800.0, 2), ("numpy", 80.0, 1)] == slowest_imports(starts)


def test_the_chart_fits_and_needs_no_colour(capsys, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    why = "`grpc._cython.cygrpc` cannot be preloaded: it starts a thread"
    long = {part.key: 100.0 for part in PARTS}
    show(
        [
            start(),
            start(origin="fresh", why_fresh=why, timings_ms=long, total_ms=800.0),
            start(
                origin="fresh",
                why_fresh=why,
                failed="import failed: ModuleNotFoundError: No module named 'torch' " * 3,
                timings_ms={"scheduled": 1.0},
                total_ms=1.0,
                function="A_class_with_a_long_name.*",
            ),
        ]
    )
    out, err = capsys.readouterr()
    lines = out.splitlines()

    assert "" == err
    assert "\x1b" not in out
    assert 100 >= max(len(line.rstrip()) for line in lines)
    assert 1 == out.count(why)
    assert "fresh(1)" in lines[2]
    assert "failed(1)(2)" in lines[3]
    assert BAR == len(lines[2].rstrip().rpartition("  ")[2].strip())
    (first_byte,) = [line for line in lines if line.startswith("b▄")]
    assert "100 ms" in first_byte
