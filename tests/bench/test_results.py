"""Tables as Markdown, and what could not be measured."""

from bench.results import DASH, Table, failures, render


def test_what_a_contender_cannot_do_is_a_dash_with_a_footnote():
    table = Table(
        title="Echo",
        told="There and back.",
        columns=["", "us", "ms"],
        rows=[["one", "1", "2"], ["two", (DASH, "it cannot"), (DASH, "it cannot")]],
    )

    assert [
        "## Echo",
        "",
        "There and back.",
        "",
        "|  | us | ms |",
        "| --- | ---: | ---: |",
        "| one | 1 | 2 |",
        f"| two | {DASH} <sup>1</sup> | {DASH} <sup>1</sup> |",
        "",
        "<sup>1</sup> it cannot  ",
        "",
    ] == render(table)


def test_a_failure_is_told_on_one_line():
    told = failures({"warm, Ray Serve": "NotStarted: it\n  ended"})

    assert "- **warm, Ray Serve**: NotStarted: it ended" in told


def test_without_failures_nothing_is_said():
    assert [] == failures({})
