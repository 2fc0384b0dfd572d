"""The signals that end a command that runs until the user ends it, and names of signals."""

import signal


def that_end() -> tuple[signal.Signals, ...]:
    """Return them. SIGHUP, the end of the terminal, is not one of them under `nohup`, which has it ignored."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return signal.SIGINT, signal.SIGTERM
    return signal.SIGINT, signal.SIGTERM, signal.SIGHUP


def name(number: int) -> str:
    """Return the name of a signal; most real-time signals have none.

    >>> name(9), name(40)
    ('SIGKILL', 'signal 40')
    """
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
