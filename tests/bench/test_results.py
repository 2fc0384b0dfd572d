"""Tables as Markdown, and what could not be measured."""

from bench.results import DASH, Limit, Table, at_the_limit, failures, render


def test_a_missing_ability_of_a_contender_is_a_dash_with_a_footnote():
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


def test_the_goals_are_one_table_with_what_others_take_beside_them():
    limit = Limit(what="memory, MiB", now="68.0", beside="uvicorn 47.0", goal="at most 70")

    told = "\n".join(at_the_limit([limit]))

    assert "## At the limit" in told
    assert "| memory, MiB | 68.0 | uvicorn 47.0 | at most 70 |" in told
    assert [] == at_the_limit([])
