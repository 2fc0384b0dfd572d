"""A command under `nohup` outlives its terminal."""

import signal

import pytest

from homeport.cli import signals


@pytest.mark.parametrize(
    ("handler", "numbers"),
    [
        (signal.SIG_IGN, (signal.SIGINT, signal.SIGTERM)),
        (signal.SIG_DFL, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)),
    ],
)
def test_the_end_of_the_terminal_ends_a_command_unless_it_was_started_to_ignore_it(
    handler, numbers
):
    before = signal.signal(signal.SIGHUP, handler)
    try:
        assert numbers == signals.that_end()
    finally:
        signal.signal(signal.SIGHUP, before)
