"""`python -m homeport.runner`: one container, from its first line of input to its exit code.

The launch comes on standard input, and the numbers of the node's descriptors in environment variables
(see contract/container.py). The started process becomes the container's init; its child continues here. A
forked container begins in zygote.py instead, and continues in the same way.
"""

import os
import signal
import sys
from typing import Any

from homeport.contract.container import Descriptors
from homeport.runner import init


def main(descriptors: Descriptors, earlier: "dict[str, Any] | None" = None) -> int:
    """Run the container; return 0 if it was asked to end, else 1."""
    from homeport.contract import codec
    from homeport.contract.container import Launch
    from homeport.runner import container, lines, setup

    # No code of the user has run yet, so SIGTERM may end the process at once.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    setup.take_over()
    links = container.Links.of(descriptors)
    if earlier is None:
        launch = codec.loads(Launch, sys.stdin.readline())
        setup.confine(launch)
    else:  # the node has set its limits and its /tmp already
        launch = codec.decode(Launch, earlier["launch"])
    setup.deafen()
    lines.install(earlier["shown"] if earlier else ((), ()))
    setup.ours_last(launch.runner_path)
    setup.settle(launch.order)
    setup.reach(launch)
    return container.run(launch.order, links)


if __name__ == "__main__":
    if "HOMEPORT_ZYGOTE_FD" in os.environ:
        # Import it by its full name, because `__main__` is the script's name in each container.
        from homeport.runner import setup
        from homeport.runner.zygotes import zygote

        setup.leave(zygote.main())
    elif "HOMEPORT_AGAIN_FD" in os.environ:
        from homeport.runner import setup
        from homeport.runner.zygotes import again

        earlier = again.earlier_data()
        setup.leave(main(again.node_descriptors(), earlier))
    else:
        own = init.separate()  # first, so that init is small
        from homeport.runner import setup

        setup.leave(main(own))
