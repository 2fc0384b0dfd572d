"""The last cold starts of each app: kept in memory, and on disk for a later server."""

import pytest

from homeport.state.coldstarts import KEPT, LINES, ColdStart, ColdStarts


@pytest.fixture
def keep(tmp_path):
    """Cold starts in the test's folder, as one server after another has them."""
    opened = []

    def keep() -> ColdStarts:
        for before in opened:
            before.close()
        opened[:] = [ColdStarts(tmp_path / "cold-starts")]
        return opened[0]

    yield keep
    for each in opened:
        each.close()


def start(number: int, app: str = "app", function: str = "f", **changes) -> ColdStart:
    told = {"at": float(number), "app": app, "function": function, "container": f"ta-{number}"}
    parts = {"parked": 1.0, "imported": 20.5}
    return ColdStart(
        **{**told, "revision": "rv", "origin": "forked", "timings_ms": parts, **changes}
    )


def ids(starts) -> list[str]:
    return [each.container for each in starts]


async def test_the_last_ones_of_an_app_or_of_a_function_the_newest_last(keep):
    starts = keep()
    for number in range(4):
        starts.add(start(number, function="fg"[number % 2]))
    starts.add(start(9, app="other"))

    assert ["ta-2", "ta-3"] == ids(starts.last("app", 2))
    assert ["ta-1", "ta-3"] == ids(starts.last("app", 9, "g"))
    assert [] == starts.last("unknown", 9)


async def test_the_first_byte_comes_later_and_counts_for_the_total(keep):
    starts = keep()
    starts.add(start(1))
    assert 21.5 == starts.last("app", 1)[0].told()["total_ms"]
    starts.answered("ta-1", 3.0)
    starts.answered("ta-1", 900.0)
    starts.answered("ta-unknown", 1.0)
    told = starts.last("app", 1)[0].told()

    assert 3.0 == told["timings_ms"]["first_byte"]
    assert 24.5 == told["total_ms"]


async def test_a_later_server_knows_them_and_takes_no_later_answer_for_a_first_one(keep):
    starts = keep()
    starts.add(start(1, imports_ms={"torch": 900.0}))
    starts.answered("ta-1", 3.0)
    starts.add(start(2, failed="no module named torch"))
    starts.add(start(3))
    before = starts.last("app", 9)
    later = keep()
    later.answered("ta-3", 1.0)

    assert before == later.last("app", 9)


async def test_only_so_many_are_kept_and_the_file_does_not_grow(keep, tmp_path):
    starts = keep()
    path = tmp_path / "cold-starts" / "app.jsonl"
    lines = []
    for number in range(LINES + 3 * KEPT):
        starts.add(start(number))
        starts._write()
        lines.append(path.read_text().count("\n"))
    later = keep()

    assert LINES == max(lines)
    expected = [f"ta-{number}" for number in range(LINES + 2 * KEPT, LINES + 3 * KEPT)]
    assert expected == ids(later.last("app", 999))


async def test_a_line_that_was_cut_off_is_passed_over(keep, tmp_path):
    keep().add(start(1))
    keep()
    with (tmp_path / "cold-starts" / "app.jsonl").open("a") as file:
        file.write('{"at": 2.0, "app"\n')
    later = keep()
    later.add(start(3))

    assert ["ta-1", "ta-3"] == ids(keep().last("app", 9))


async def test_a_damaged_line_of_the_file_spoils_no_other(keep, tmp_path):
    starts = keep()
    starts.add(start(1))
    starts.close()
    with (tmp_path / "cold-starts" / "app.jsonl").open("ab") as file:
        file.write(b'\xff\xfe\n[]\n{"at": "x"}\nnull\n{"timings_ms": 3}\n\n')
    again = keep()
    again.add(start(2, why_fresh="half \ud800 of a character"))
    again.close()

    assert ["ta-1", "ta-2"] == ids(keep().last("app", KEPT))
