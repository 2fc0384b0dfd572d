"""Which lines of a container's output its init passes on."""

import array
import fcntl
import os
import termios
import threading

import pytest

from homeport.contract.output import read_dropped
from homeport.runner import drain
from homeport.runner.drain import Bucket, Drain
from tests.waiting import wait_for


@pytest.fixture
def pipes():
    """A pipe to print into, one to read from, a drain between them, and its clock."""
    source, sink = os.pipe(), os.pipe()
    for end in (*source, *sink):
        os.set_blocking(end, False)
    now = [100.0]
    yield source[1], sink[0], Drain(source[0], sink[1], lambda: now[0]), now
    for end in (*source, *sink):
        os.close(end)


def read(sink: int) -> bytes:
    """Return what was passed on."""
    output = b""
    try:
        while data := os.read(sink, 65536):
            output += data
    except BlockingIOError:
        pass
    return output


def test_a_bucket_lets_a_burst_through_and_then_a_rate():
    bucket = Bucket(0.0)

    assert bucket.take(drain.BURST_BYTES, 1, 0.0)
    assert not bucket.take(1, 1, 0.0)
    assert not bucket.take(drain.BYTES_PER_S + 1, 1, 1.0)
    assert bucket.take(drain.BYTES_PER_S, 1, 1.0)
    assert not bucket.take(0, drain.BURST_LINES + 1, 1000.0)


def test_output_is_passed_on_byte_for_byte(pipes):
    prints, sink, drained, _ = pipes
    os.write(prints, b"one\ntwo\r\n\xffthree")

    assert 15 == drained.read()
    assert b"one\ntwo\r\n\xffthree" == read(sink)
    assert drained.read() is None
    os.write(prints, b" more\n")
    drained.read()
    assert b" more\n" == read(sink)


def test_beyond_the_burst_whole_lines_are_dropped_and_counted(pipes):
    prints, sink, drained, now = pipes
    line = b"%06d " + b"x" * 92 + b"\n"  # 100 bytes
    output, number = b"", 0
    for _ in range(60):
        count = 600
        os.write(prints, b"".join(line % (number + n) for n in range(count)))
        number += count
        drained.read()
        output += read(sink)
    now[0] += 60
    os.write(prints, b"after\n")
    drained.read()
    output += read(sink)
    lines = output.split(b"\n")
    (mark,) = [line for line in lines if read_dropped(line)]
    passed = [line for line in lines if line and line[:6].isdigit()]

    assert b"after" == lines[-2]
    assert all(99 == len(line) for line in passed)
    assert drain.BURST_LINES - 600 < len(passed) <= drain.BURST_LINES
    assert (number - len(passed), 100 * (number - len(passed))) == read_dropped(mark)


def test_a_line_that_has_begun_is_passed_whole_and_one_that_was_dropped_leaves_no_end(pipes):
    prints, sink, drained, now = pipes
    drained._bucket.take(drain.BURST_BYTES - 10, 0, now[0])
    for text in (b"begun ", b"and ended\nlost\nlost too, ", b"with its end\nlost\n"):
        os.write(prints, text)
        drained.read()
    now[0] += 60
    os.write(prints, b"here\n")
    drained.read()

    assert b"begun and ended\n\x1d3 33\nhere\n" == read(sink)


def test_a_reader_that_is_away_costs_lines_and_holds_nobody_up(pipes):
    prints, sink, drained, now = pipes
    block = b"x" * 49 + b"\n"
    for _ in range(8):
        os.write(prints, block * 1000)
        drained.read()
        now[0] += 1
    size = len(read(sink))
    drained.tell()
    now[0] += 1
    drained.tell()
    output = read(sink)
    (missing,) = [dropped for line in output.split(b"\n") if (dropped := read_dropped(line))]

    assert 0 < size < 8 * 50_000
    assert 8000 * 50 == size + output.index(b"\x1d") + missing[1]
    assert drained.timeout_s is None


def test_a_container_cannot_say_that_lines_were_dropped(pipes):
    prints, sink, drained, _ = pipes
    os.write(prints, b"\x1d7 70\n")
    drained.read()

    assert read_dropped(read(sink).rstrip(b"\n")) is None


def test_the_last_words_of_a_container_say_what_was_dropped(pipes):
    prints, sink, drained, now = pipes
    drained._bucket.take(drain.BURST_BYTES, 0, now[0])
    os.write(prints, b"lost\n")
    drained.read()
    drained.finish()

    assert b"\x1d1 5\n" == read(sink)


def test_a_reader_that_takes_its_time_misses_nothing(pipes):
    prints, sink, drained, _ = pipes
    pieces = []
    written = threading.Event()

    def full() -> bool:
        """Return whether the pipe is full, or all lines are written."""
        waiting = array.array("i", [0])
        fcntl.ioctl(sink, termios.FIONREAD, waiting)
        return waiting[0] > 60_000 or written.is_set()

    def slowly() -> None:
        while sum(map(len, pieces)) < 400_000:
            wait_for(full, "the drain to wait for the reader")
            pieces.append(read(sink))

    reader = threading.Thread(target=slowly)
    reader.start()
    for _ in range(8):
        os.write(prints, (b"x" * 99 + b"\n") * 500)
        drained.read()
    written.set()
    reader.join(60)

    assert (b"x" * 99 + b"\n") * 4000 == b"".join(pieces)
