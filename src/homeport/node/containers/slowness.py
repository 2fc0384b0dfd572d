"""PURE: more time for a program that listens on a port, while its packages are not compiled.

The packages of a new image are compiled after its first container serves (node/images/compiled.py). Until then a
program compiles what it imports at each start: several seconds for Streamlit, and the time limit for the port is 5 s
unless the script says more. So the first start failed, no container ever served, and nothing was ever compiled.
"""

import dataclasses

from homeport.contract.container import StartOrder

UNCOMPILED_S = 60.0


def with_time_to_compile(order: StartOrder) -> StartOrder:
    """Return the order with more time until the ports of its web methods must accept connections."""
    web = tuple(
        dataclasses.replace(
            web_method, startup_timeout_s=web_method.startup_timeout_s + UNCOMPILED_S
        )
        if web_method.port is not None
        else web_method
        for web_method in order.function.web
    )
    return dataclasses.replace(order, function=dataclasses.replace(order.function, web=web))
