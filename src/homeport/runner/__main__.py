"""`python -m homeport.runner`: one container, from its first line of input to its exit code.

The spec comes on standard input; what becomes of the start goes to the descriptor in
HOMEPORT_REPORT_FD (see contract/container.py). With HOMEPORT_LIFELINE_FD, the container ends when
the other end of that pipe closes: its server is gone and nobody would ever ask for it again.
"""

import os
import signal
import sys
import threading

from homeport.contract import codec
from homeport.contract.container import ContainerSpec
from homeport.runner import container, lines
from homeport.runner.report import Report

LINGER_S = 2.0  # what threads get to end by themselves


def main() -> int:
    """0 when it was asked to end, else 1."""
    # Nothing of the user's has begun: asked to end, there is nothing to say or to save.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    report = Report(_take("HOMEPORT_REPORT_FD"))
    if "HOMEPORT_LIFELINE_FD" in os.environ:
        _hold(_take("HOMEPORT_LIFELINE_FD"))
    spec = codec.loads(ContainerSpec, sys.stdin.readline())
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    lines.install()
    _find(spec)
    return container.run(spec, report)


def _take(name: str) -> int:
    """A descriptor that is this process's alone."""
    descriptor = int(os.environ.pop(name))
    os.set_inheritable(descriptor, False)
    return descriptor


def _hold(lifeline: int) -> None:
    def wait() -> None:
        os.read(lifeline, 1)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=wait, name="homeport lifeline", daemon=True).start()


def _find(spec: ContainerSpec) -> None:
    """The user's files first, ours last: what the user installed wins over what we brought."""
    ours = sys.path.pop(0)
    sys.path.insert(0, spec.source)
    sys.path.append(ours)
    if spec.runner_path:
        sys.path.append(spec.runner_path)
    workdir = spec.image.workdir
    os.chdir(workdir if workdir and os.path.isdir(workdir) else spec.source)  # noqa: PTH112 - pathlib costs 10 ms


def _exit(code: int) -> None:
    """End, even when the user's threads would go on forever."""

    def give_up() -> None:
        lingering = [
            thread.name
            for thread in threading.enumerate()
            if not thread.daemon and thread is not threading.main_thread()
        ]
        print(f"threads that did not end: {', '.join(lingering)}", file=sys.stderr)  # noqa: T201 - the container's log
        os._exit(code)

    patience = threading.Timer(LINGER_S, give_up)
    patience.daemon = True
    patience.start()
    sys.exit(code)


if __name__ == "__main__":
    _exit(main())
