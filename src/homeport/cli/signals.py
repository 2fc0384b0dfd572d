"""The signals that end a command that runs until the user ends it."""

import signal


def that_end() -> tuple[signal.Signals, ...]:
    """Return them. SIGHUP, the end of the terminal, is not one of them under `nohup`, which has it ignored."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return signal.SIGINT, signal.SIGTERM
    return signal.SIGINT, signal.SIGTERM, signal.SIGHUP
