"""`python -m homeport.runner`: one container, from its first line of input to its exit code.

The spec comes on standard input; what becomes of the start goes to the descriptor in
HOMEPORT_REPORT_FD (see contract/container.py). With HOMEPORT_LIFELINE_FD, the container ends when
the other end of that pipe closes: its server is gone and nobody would ever ask for it again.

A container that is forked begins in zygote.py instead, and goes on in the same way.
"""

import os
import signal
import sys

from homeport.contract import codec
from homeport.contract.container import ContainerSpec
from homeport.runner import container, life, lines
from homeport.runner.report import Report


def main() -> int:
    """0 when it was asked to end, else 1."""
    # Nothing of the user's has begun: asked to end, there is nothing to say or to save.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    life.take_over()
    report = Report(life.keep(int(os.environ.pop("HOMEPORT_REPORT_FD"))))
    lifeline = os.environ.pop("HOMEPORT_LIFELINE_FD", None)
    spec = codec.loads(ContainerSpec, sys.stdin.readline())
    life.deafen()
    life.confine(spec)
    if lifeline is not None:
        life.hold(life.keep(int(lifeline)))
    lines.install()
    life.ours_last(spec.runner_path)
    life.settle(spec)
    return container.run(spec, report)


if __name__ == "__main__":
    life.leave(main())
