"""The thread that reads what containers print."""

import asyncio
import os
import subprocess
import threading
from pathlib import Path

import pytest

from homeport.contract.output import MARK, dropped
from homeport.node.containers import output
from homeport.node.containers.output import Outputs
from tests.waiting import until

#: The number of epoll_wait(2), as /proc shows it; on arm64 of epoll_pwait(2).
EPOLL_WAIT = {"x86_64": "232", "aarch64": "22"}[os.uname().machine]


@pytest.fixture
async def outputs():
    """The thread that reads containers' output."""
    outputs = Outputs()
    outputs.open()
    yield outputs
    outputs.close()


class Printer:
    """A container's pipe, and the lines that were read from it."""

    def __init__(self, outputs: Outputs) -> None:
        comes_out, self.pipe = output.pipe()
        self.lines: list[tuple[str, str, str]] = []
        self.outputs = outputs
        self.followed = outputs.follow(comes_out, lambda *line: self.lines.append(line))

    def print(self, data: bytes) -> None:
        """Write to the pipe."""
        os.write(self.pipe, data)

    async def heard(self, count: int) -> list[str]:
        """Wait for `count` lines; return their texts."""
        await until(lambda: len(self.lines) >= count, f"{count} lines")
        return [text for text, _, _ in self.lines]

    async def finish(self) -> list[str]:
        """Read to the end of the pipe; return all texts."""
        await self.outputs.finish(self.followed)
        return [text for text, _, _ in self.lines]


def waits(outputs: Outputs) -> bool:
    """Return whether the thread waits in the kernel for an event, with no time after which it wakes up."""
    call = Path(f"/proc/self/task/{outputs._thread.native_id}/syscall").read_text().split()
    return call[0] == EPOLL_WAIT and int(call[4], 16) & 0xFFFFFFFF == 0xFFFFFFFF


@pytest.fixture
def printer(outputs):
    """One container that prints."""
    printer = Printer(outputs)
    yield printer
    os.close(printer.pipe)


async def test_lines_are_told_and_a_piece_without_a_newline_after_a_while(printer):
    printer.print(b"one\ntwo \xff\r\nprompt: ")

    assert ["one", "two \N{REPLACEMENT CHARACTER}", "prompt: "] == await printer.heard(3)


async def test_the_end_tells_everything_at_once_however_much_it_is(printer):
    size = b"x" * 9 + b"\n"
    printer.print(size * 6000 + b"last words")
    texts = await asyncio.wait_for(printer.finish(), 5)

    assert 6001 == len(texts)
    assert "last words" == texts[-1]


async def test_a_long_line_comes_in_pieces(printer):
    printer.print(b"y" * 40_000 + b"\nnext\n")
    texts = await printer.finish()

    assert ["y" * 16384, "y" * 16384, "y" * 7232, "next"] == texts


async def test_a_line_knows_its_request_unless_somebody_made_the_id_up(printer):
    printer.print(b"\x1eab-12\x1fmine\n\x1e<b>\x1fforged\n\x1e" + b"a" * 200 + b"\x1flong\n")
    await printer.finish()

    assert ("mine", "ab-12", "output") == printer.lines[0]
    assert ["", ""] == [request for _, request, _ in printer.lines[1:]]
    assert "\x1e<b>\x1fforged" == printer.lines[1][0]


async def test_the_number_of_dropped_lines_comes_from_us_and_from_nobody_else(printer):
    printer.print(dropped(12, 345) + MARK * 2 + b"12 345\n" + MARK + b"x y z\n")
    await printer.finish()

    ours, forged, odd = printer.lines
    assert ("12 lines (345 bytes) are missing here: they came faster than a container may print", "system") == (ours[0], ours[2])  # fmt: skip
    assert ("\x1d12 345", "output") == (forged[0], forged[2])
    assert "output" == odd[2]


async def test_a_container_that_prints_without_end_delays_nobody(outputs, printer):
    over = threading.Event()

    def flood() -> None:
        while not over.is_set():
            os.write(printer.pipe, b"noise\n" * 5000)

    quiet = Printer(outputs)
    thread = threading.Thread(target=flood)
    thread.start()
    try:
        for number in range(5):
            quiet.print(b"quiet\n")
            async with asyncio.timeout(60):
                await quiet.heard(number + 1)
    finally:
        over.set()
        os.set_blocking(printer.pipe, False)
        thread.join()
        os.close(quiet.pipe)

    assert printer.lines


async def test_a_thread_that_has_nothing_to_read_does_nothing(outputs, printer):
    printer.print(b"one\n")
    await printer.heard(1)

    await until(lambda: waits(outputs), "the thread to wait without end")


async def test_a_thread_that_waits_without_end_is_stopped_all_the_same():
    outputs = Outputs()
    outputs.open()
    ends = output.pipe()
    outputs.follow(ends[0], lambda *_line: None)
    await until(lambda: waits(outputs), "the thread to wait without end")
    await asyncio.wait_for(asyncio.to_thread(outputs.close), 60)
    with pytest.raises(BrokenPipeError):  # nobody has the reading end any more
        os.write(ends[1], b"!")
    os.close(ends[1])

    assert "container output" not in [thread.name for thread in threading.enumerate()]


async def test_a_writer_that_has_ended_is_not_asked_again(outputs, printer):
    other = Printer(outputs)
    other.print(b"end\n")
    os.close(other.pipe)

    assert ["end"] == await other.heard(1)
    assert ["end"] == await other.finish()


async def test_the_descriptor_of_an_output_that_has_ended_is_closed(outputs):
    comes_out, goes_in = output.pipe()
    followed = outputs.follow(comes_out, lambda *_line: None)
    os.close(goes_in)
    await outputs.finish(followed)

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(comes_out)


async def test_lines_that_cannot_be_passed_on_are_logged_and_hold_up_nobody(
    outputs, printer, caplog
):
    comes_out, pipe = output.pipe()

    def fails(*_line: str) -> None:
        raise OSError("the disk is full")

    followed = outputs.follow(comes_out, fails)
    os.write(pipe, b"lost\n")
    os.close(pipe)
    printer.print(b"kept\n")
    await outputs.finish(followed)

    assert ["kept"] == await printer.heard(1)
    assert "lines that a container printed are lost" in caplog.text
    assert "the disk is full" in caplog.text


def test_an_output_with_lines_reads_no_more_until_they_are_taken():
    comes_out, pipe = output.pipe()
    followed = output.Output(comes_out, lambda *_line: None)
    os.write(pipe, b"one\ntwo\n")
    followed.read()
    assert 0.0 == followed.wait_s
    os.write(pipe, b"three\n")
    followed.read()

    assert ["one"] == [text for text, _, _ in followed.lines(1)]
    assert ["two"] == [text for text, _, _ in followed.lines(9)]
    assert followed.wait_s is None
    followed.read()
    assert ["three"] == [text for text, _, _ in followed.lines(9)]
    for end in (comes_out, pipe):
        os.close(end)


def test_the_output_of_a_process_that_never_pauses_has_an_end():
    ours, theirs = os.pipe()
    with subprocess.Popen(["yes", "x" * 1000], stdout=theirs) as process:
        os.close(theirs)
        try:
            lines = output.Output(ours, lambda *_: None).everything()
        finally:
            process.kill()
            os.close(ours)

    assert sum(len(text) + 1 for text, _, _ in lines) <= output.MAX_LAST + output.READ_BYTES
