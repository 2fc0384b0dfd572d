"""Containers' output: on disk by app, and to clients that follow it."""

import asyncio
import dataclasses
import os
import resource
import threading
from pathlib import Path

import pytest

from homeport.contract import codec
from homeport.contract.container import LogLine
from homeport.contract.scope import MAIN, Scope
from homeport.state import logfiles, logs
from homeport.state.logs import Logs
from tests.waiting import turns, until


def line(text, app="app", **kwargs):
    return LogLine(**{"at": 1.0, "app": app, "function": "f", "container": "ta-1", "text": text, **kwargs})  # fmt: skip


def everything(_line):
    return True


async def texts(logs: Logs, count: int = 1000, app: str = "app", **kwargs) -> list[str]:
    """Return the texts of the last lines."""
    tail = await logs.tail(MAIN, app, count, kwargs.pop("wants", everything), **kwargs)
    return [codec.loads(LogLine, item).text for item in tail]


@pytest.fixture
def kept_logs(tmp_path):
    """Logs with room for a lot."""
    kept_logs = Logs(tmp_path / "logs", 64 * 1024 * 1024)
    yield kept_logs
    kept_logs.close()


def test_a_line_of_a_file_is_what_the_codec_makes():
    written = line('quote " \u2028 \x1b[31m \\ \u2713', at=1.25, request="r", source="system")
    in_json = codec.dumps(written).replace(
        ',"within":{"workspace":"main","environment":"main"}', ""
    )

    assert in_json.encode() + b"\n" == logfiles.encoded(written)
    assert written == codec.loads(LogLine, logfiles.encoded(written))


async def test_the_tail_is_the_last_lines_in_order(kept_logs):
    for number in range(10):
        kept_logs.write(line(f"line {number} \u2713"))

    assert ["line 7 ✓", "line 8 ✓", "line 9 ✓"] == await texts(kept_logs, 3)
    assert [] == await texts(kept_logs, 3, "another")


async def test_the_tail_has_what_was_written_before_it_and_a_follower_the_rest(kept_logs):
    with kept_logs.following(MAIN, everything) as lines:
        kept_logs.write(line("before"))
        tail = asyncio.create_task(kept_logs.tail(MAIN, "app", 10, everything))
        await turns(1)
        kept_logs.write(line("after"))

        assert ["before"] == [codec.loads(LogLine, item).text for item in await tail]
        assert ["before", "after"] == [(await anext(lines)).text for _ in range(2)]


async def test_closing_waits_until_everything_is_written(tmp_path):
    kept_logs, go, order = Logs(tmp_path, 10**6), threading.Event(), []
    put = kept_logs._files.append

    def slowly(app, lines):
        go.wait(60)
        put(app, lines)
        order.append("written")

    def close():
        kept_logs.close()
        order.append("closed")

    kept_logs._files.append = slowly
    kept_logs.write(line("late"))
    await until(lambda: not kept_logs._queue.qsize(), "the thread to have the line")
    closing = threading.Thread(target=close)
    closing.start()
    await until(lambda: kept_logs._queue.qsize(), "the call of `close`")
    go.set()
    closing.join()

    assert ["written", "closed"] == order
    assert b'"late"' in (tmp_path / "app.jsonl").read_bytes()


async def test_only_what_is_wanted_counts(kept_logs):
    for number in range(100):
        kept_logs.write(line(f"{number}", at=float(number * 100), container=f"ta-{number % 2}"))
    kept_logs.write(line('"container":"ta-1"', container="ta-2", at=9950.0))

    only = {"container": "ta-1"}
    assert ["97", "99"] == await texts(
        kept_logs, 2, wants=lambda item: item.container == "ta-1", only=only
    )
    assert ["98", "99", '"container":"ta-1"'] == await texts(
        kept_logs, wants=lambda item: item.at >= 9800, since=9800.0
    )


async def test_an_app_never_takes_more_than_its_cap(tmp_path):
    kept_logs = Logs(tmp_path, 256 * 1024)
    for number in range(20_000):
        kept_logs.write(line(f"{number} {'x' * 50}"))
    last = await texts(kept_logs, 2)
    kept_logs.close()
    size = sum(path.stat().st_size for path in tmp_path.iterdir())

    assert size <= 256 * 1024
    assert ["19998", "19999"] == [text.split()[0] for text in last]


async def test_two_apps_never_share_a_file(tmp_path):
    kept_logs = Logs(tmp_path, 128 * 1024)
    kept_logs.write(line("mine", app="app.1"))
    for _ in range(3_000):
        kept_logs.write(line("x" * 50))
    texts_of_app = await texts(kept_logs, app="app.1")
    kept_logs.close()

    assert ["mine"] == texts_of_app


def bytes_read() -> int:
    """Return how many bytes this process has read so far (proc_pid_io(5))."""
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])


async def test_the_last_lines_of_a_large_log_cost_little(tmp_path):
    kept_logs = Logs(tmp_path, 64 * 1024 * 1024)
    kept_logs.close()
    row = logfiles.encoded(line("x" * 100))
    (tmp_path / "app.jsonl").write_bytes(row * (30 * 1024 * 1024 // len(row)))
    kept_logs = Logs(tmp_path, 64 * 1024 * 1024)
    decoded, read_before = [], bytes_read()
    tail = await kept_logs.tail(MAIN, "app", 100, lambda item: decoded.append(item) or True)
    read = bytes_read() - read_before
    kept_logs.close()

    assert [row] * 100 == tail
    assert 100 == len(decoded)
    assert read < 2 * logfiles.BLOCK_BYTES


async def test_reading_a_large_log_to_its_beginning_leaves_the_loop_free(tmp_path):
    row = logfiles.encoded(line("x" * 100))
    blocks = 10
    (tmp_path / "app.jsonl").write_bytes(row * (blocks * logfiles.BLOCK_BYTES // len(row)))
    kept_logs = Logs(tmp_path, 64 * 1024 * 1024)
    tail = asyncio.create_task(kept_logs.tail(MAIN, "app", 100, lambda _line: False))
    count = 0
    while not tail.done():
        await turns(1)
        count += 1
    kept_logs.close()

    assert [] == await tail
    assert count > blocks  # more than one turn of the loop for each block


async def test_lines_that_a_full_disk_does_not_take_are_counted_and_reported_when_it_does(
    kept_logs, tmp_path
):
    kept_logs.write(line("before"))
    assert ["before"] == await texts(kept_logs)
    size = (tmp_path / "logs" / "app.jsonl").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, before[1]))  # within the next line
    try:
        for _ in range(3):
            kept_logs.write(line("lost"))
        assert ["before"] == await texts(kept_logs)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    kept_logs.write(line("after"))

    assert ["before", "3 lines missing here: File too large", "after"] == await texts(kept_logs)


async def test_a_line_that_was_cut_spoils_no_other(tmp_path):
    (tmp_path / "app.jsonl").write_bytes(b'{"at":1.0,"app":"app","fun')
    kept_logs = Logs(tmp_path, 10**6)
    kept_logs.write(line("whole"))
    shown = await texts(kept_logs)
    kept_logs.close()

    assert ["whole"] == shown


async def test_a_disk_that_hangs_costs_lines_and_holds_nobody_up(kept_logs, monkeypatch):
    monkeypatch.setattr(logs, "QUEUED", 5)
    read, write = os.pipe()
    put = kept_logs._files.append

    def hang(app, lines):
        os.read(read, 1)
        put(app, lines)

    kept_logs._files.append = hang
    for number in range(50):
        kept_logs.write(line(f"{number}"))
    kept_logs._files.append = put
    os.write(write, b".")
    await until(lambda: not kept_logs._queue.qsize(), "the queue to be empty")
    kept_logs.write(line("after"))
    shown = await texts(kept_logs)
    for end in (read, write):
        os.close(end)

    kept = len(shown) - 2
    assert f"{50 - kept} lines missing here: the disk was too slow" == shown[-2]
    assert "after" == shown[-1]


async def test_the_logs_of_a_deleted_environment_go_and_no_others(tmp_path):
    kept_logs = Logs(tmp_path, 10**6)
    gone = Scope("main", "gone")
    for within in (MAIN, gone, Scope("main", "stays"), Scope("acme", "gone")):
        kept_logs.write(line(f"of {within}", within=within))
    kept_logs.remove(gone)
    assert [] == await kept_logs.tail(gone, "app", 10, everything)
    kept_logs.write(line("of a later one", within=gone))
    kept_logs.remove(MAIN)
    kept_logs.close()
    left = {codec.loads(LogLine, path.read_bytes()).text for path in tmp_path.rglob("*.jsonl")}

    assert {"of main/main", "of main/stays", "of acme/gone", "of a later one"} == left


async def test_a_follower_sees_what_it_asked_for_and_nothing_from_before(kept_logs):
    kept_logs.write(line("before"))
    with kept_logs.following(MAIN, lambda item: item.app == "app") as lines:
        kept_logs.write(line("not mine", app="other"))
        kept_logs.write(line("mine"))
        followed = await asyncio.wait_for(anext(lines), 10)

    assert "mine" == followed.text


async def test_a_follower_that_is_too_slow_is_told_what_it_has_missed(kept_logs, monkeypatch):
    monkeypatch.setattr(logs, "BACKLOG", 3)
    with kept_logs.following(MAIN, everything) as lines:
        for number in range(10):
            kept_logs.write(line(f"{number}"))
        first = [(await anext(lines)).text for _ in range(3)]
        kept_logs.write(line("next"))
        first += [(await anext(lines)).text for _ in range(2)]
        for number in range(4):
            kept_logs.write(line(f"again {number}"))
        again = [(await anext(lines)).text for _ in range(3)]
        kept_logs.write(line("last"))
        again += [(await anext(lines)).text for _ in range(2)]

    assert ["0", "1", "2", "7 lines missing here: the reader was too slow", "next"] == first  # fmt: skip
    assert ["1 line missing here: the reader was too slow", "last"] == again[3:]


async def test_files_of_the_old_name_are_found_again(tmp_path):
    (tmp_path / "app.1.jsonl").write_bytes(logfiles.encoded(line("old")))
    (tmp_path / "app.jsonl").write_bytes(logfiles.encoded(line("new")))
    (tmp_path / "b.1.jsonl").write_bytes(logfiles.encoded(line("of b.1", app="b.1")))
    kept_logs = Logs(tmp_path, 10**6)
    texts_of_apps = await texts(kept_logs), await texts(kept_logs, app="b.1")
    kept_logs.close()

    assert (["old", "new"], ["of b.1"]) == texts_of_apps


def test_every_field_is_written():
    # A line's environment is the folder of its file.
    assert (*logfiles.FIELDS, "within") == tuple(
        field.name for field in dataclasses.fields(LogLine)
    )
    assert "at" == logfiles.FIELDS[0]  # `since` reads it without decoding the line
