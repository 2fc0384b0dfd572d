"""`python -m homeport.runner`: one container, from its first line of input to its exit code.

The launch comes on standard input, and what the node hands over in the environment
(see contract/container.py). The process that was started becomes the container's init; its child goes
on here. A container that is forked begins in zygote.py instead, and goes on in the same way.
"""

import os
import signal
import sys
from typing import Any

from homeport.contract.container import Descriptors
from homeport.runner import init


def main(given: Descriptors, earlier: "dict[str, Any] | None" = None) -> int:
    """0 when it was asked to end, else 1."""
    from homeport.contract import codec
    from homeport.contract.container import Launch
    from homeport.runner import container, life, lines

    # Nothing of the user's has begun: asked to end, there is nothing to say or to save.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    life.take_over()
    means = container.Means.of(given)
    if earlier is None:
        launch = codec.loads(Launch, sys.stdin.readline())
        life.confine(launch)
    else:  # its limits and its /tmp are there
        launch = codec.decode(Launch, earlier["launch"])
    life.deafen()
    lines.install(earlier["shown"] if earlier else ((), ()))
    life.ours_last(launch.runner_path)
    life.settle(launch.order)
    return container.run(launch.order, means)


if __name__ == "__main__":
    if "HOMEPORT_ZYGOTE_FD" in os.environ:
        # The same module for all, since it is the script's `__main__` in each container.
        from homeport.runner import life
        from homeport.runner.zygotes import zygote

        life.leave(zygote.main())
    elif "HOMEPORT_AGAIN_FD" in os.environ:
        from homeport.runner import life
        from homeport.runner.zygotes import again

        earlier = again.told()
        life.leave(main(again.given(), earlier))
    else:
        told = init.separate()  # first, so that init is small
        from homeport.runner import life

        life.leave(main(told))
