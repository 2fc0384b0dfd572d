"""`homeport up`, `down`, `status`: the background server."""

import asyncio
from typing import Any

from homeport.cli import options, output, server
from homeport.settings import Settings


def up(host: options.Host = None, http_port: options.HttpPort = None) -> None:
    """Start the background server; it brings every deployed app back."""
    asyncio.run(_up(options.load(host=host, http_port=http_port)))


def down() -> None:
    """End the background server and everything that it runs; deployed apps come back with `up`."""
    ended = asyncio.run(server.down(options.load()))
    output.say("homeport is down" if ended else "no server was running")


def status(json: options.Json = False) -> None:
    """Say what runs."""
    asyncio.run(_status(options.load(), json=json))


async def _up(settings: Settings) -> None:
    async with server.kept(settings) as client:
        told = await client.status()
    output.out().print(f"homeport is up: {output.address(told)} (pid {told['pid']})")
    for app in told["apps"]:
        output.show_endpoints(app["endpoints"])
    _warn_of_broken(told["apps"])


def _warn_of_broken(apps: list[dict[str, Any]]) -> None:
    for app in apps:
        if app["state"] == "broken":
            output.warn(f"`{app['name']}` cannot be served: {app['reason']}; it is tried again")


async def _status(settings: Settings, *, json: bool) -> None:
    async with server.running(settings) as client:
        told = await client.status()
    if json:
        output.show_json(told)
        return
    keeps = "in the background" if told["kept"] else "for a `homeport serve`"
    output.out().print(
        f"homeport {told['version']} on {output.address(told)}, {keeps}, "
        f"pid {told['pid']}, for {output.ago(told['started_at'])}"
    )
    rows = [
        (
            app["name"],
            app["state"],
            endpoint["tag"],
            endpoint["containers"],
            endpoint["running"],
            endpoint["queued"],
            endpoint["served"],
            endpoint["errors"],
            endpoint["cold_starts"],
            endpoint["p50_ms"],
            endpoint["p99_ms"],
            endpoint["url"],
        )
        for app in told["apps"]
        for endpoint in app["endpoints"]
    ]
    columns = (
        "App", "State", "Function", "Containers", "Running", "Queued", "Served", "Errors",
        "Cold starts", "p50 ms", "p99 ms", "URL",
    )  # fmt: skip
    none = "no app serves" if told["apps"] else "no app is deployed: `homeport deploy script.py`"
    output.show_table(columns, rows, empty=none)
    _warn_of_broken(told["apps"])
