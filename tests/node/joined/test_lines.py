"""Log lines on their way: bounded, counted, and each of them at most once."""

from hypothesis import given
from hypothesis import strategies as st

from homeport.contract.container import LogLine
from homeport.node.joined import lines as module
from homeport.node.joined.lines import Lines


def line(text: str) -> LogLine:
    return LogLine(at=0.0, app="a", function="f", container="c", text=text)


def taken(lines: Lines) -> list[str]:
    """Take all batches, as a control plane does that answers at once."""
    found: list[str] = []
    while (batch := lines.batch()) is not None:
        found += [each.text for each in batch.lines]
        lines.confirmed(batch.number)
    return found


def test_lines_arrive_in_their_order_in_batches_of_a_bounded_size():
    lines, texts = Lines(), [f"{n}" * 100 for n in range(1000)]
    for text in texts:
        lines.add(line(text))
    first = lines.batch()

    assert sum(len(each.text) for each in first.lines) <= module.BATCH_BYTES
    lines.confirmed(first.number)
    assert texts == [each.text for each in first.lines] + taken(lines)
    assert 0 == lines.size_bytes


def test_only_so_many_batches_are_under_way_until_the_control_plane_has_them():
    lines = Lines()
    for _ in range(1000):
        lines.add(line("x" * 1000))
    batches = [lines.batch() for _ in range(module.WINDOW + 1)]
    assert batches[-1] is None
    lines.confirmed(batches[1].number)

    assert lines.batch() is not None
    assert batches[2:4] == lines.again()[:2]


def test_lines_that_were_under_way_are_sent_again_with_their_number():
    lines = Lines()
    lines.add(line("one"))
    first = lines.batch()
    lines.add(line("two"))

    assert [first] == lines.again()
    assert first.number + 1 == lines.batch().number


def test_lines_that_have_no_room_are_dropped_counted_and_logged_once(caplog):
    lines = Lines(most_bytes=1000)
    for number in range(100):
        lines.add(line(str(number)))
    assert 1 == caplog.text.count("lines of logs are dropped")
    batch = lines.batch()
    assert len(batch.lines) + batch.dropped == 100
    lines.confirmed(batch.number)
    lines.add(line("after"))

    later = lines.batch()
    assert (["after"], 0) == ([each.text for each in later.lines], later.dropped)


@given(st.lists(st.one_of(st.text(max_size=300), st.none(), st.integers(-1, 50))))
def test_the_buffer_is_bounded_whatever_happens(steps):
    lines = Lines(most_bytes=2000)
    for step in steps:
        if isinstance(step, str):
            lines.add(line(step))
        elif step is None:
            lines.batch()
        else:
            lines.confirmed(step)
        assert 0 <= lines.size_bytes <= 2000
