"""`homeport deploy`: deploys a script's endpoints to the background server."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

import typer

from homeport.cli import canary as canaries
from homeport.cli import live, options, output, script, server
from homeport.contract.declaring import Declared
from homeport.contract.errors import BadRequest, Failure, ServerUnreachable
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.contract.api.deploys import Canary, Deployed
    from homeport.contract.api.events import Event


def deploy(
    ref: options.Ref,
    name: options.Name = "",
    tag: Annotated[str, typer.Option(help="A name for this version, shown by `history`.")] = "",
    strategy: Annotated[
        str,
        typer.Option(
            help="rolling: start the new containers first. recreate: end the old ones first."
        ),
    ] = "rolling",
    drain: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Seconds that running requests of the old version get; by default its `timeout`.",
            show_default=False,
        ),
    ] = None,
    expires: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Stop the app after 30m, 12h or 7d; each deploy starts that time again. `never` takes it back.",
            show_default=False,
        ),
    ] = "",
    canary: canaries.Share = "",
    lasts: canaries.Lasts = "",
    module: options.Module = False,
    timestamps: options.Timestamps = False,
    build_log: options.BuildLog = False,
    json: options.Json = False,
    host: options.Host = None,
    http_port: options.HttpPort = None,
    environment: options.Environment = None,
) -> None:
    """Deploy a script's endpoints; a new version replaces the old one, and no request fails."""
    settings = options.load(environment=environment, host=host, http_port=http_port)
    asyncio.run(
        _deploy(
            settings,
            ref,
            name=name,
            tag=tag,
            strategy=strategy,
            drain_s=drain,
            expires_s=lifetime_s(expires) if expires else None,
            canary=canaries.wanted(canary, lasts),
            module=module,
            timestamps=timestamps,
            build_log=build_log,
            json=json,
        )
    )


def lifetime_s(text: str) -> float:
    """Return the seconds that `7d` means; 0 for `never`.

    >>> lifetime_s("90m"), lifetime_s("7d"), lifetime_s("never")
    (5400.0, 604800.0, 0.0)
    """
    if text == "never":
        return 0.0
    if match := re.fullmatch(r"([0-9]{1,9})([mhd])", text):
        return float(match[1]) * {"m": 60, "h": 3600, "d": 86400}[match[2]]
    raise BadRequest(f"`--expires {text}` is not a time", hint="write 30m, 12h, 7d or never")


async def _deploy(
    settings: Settings,
    ref: str,
    *,
    name: str,
    tag: str,
    strategy: str,
    drain_s: float | None,
    expires_s: float | None,
    canary: "Canary | None",
    module: bool,
    timestamps: bool,
    build_log: bool,
    json: bool,
) -> None:
    began = time.monotonic()
    declaring = asyncio.create_task(script.declare(ref, module=module, name=name))
    await asyncio.sleep(0)  # so that the script is loaded while this process imports
    output.prepare()
    declared = await declaring
    for text in declared.warnings:
        output.warn(text)
    deployed = await _upload(
        settings,
        declared,
        tag=tag,
        strategy=strategy,
        drain_s=drain_s,
        expires_s=expires_s,
        canary=canary,
        timestamps=timestamps,
        builds=live.Builds(f"deploying `{declared.name}`", every=build_log, plain=json),
        plain=json,
    )
    if json:
        output.show_json(deployed)
        return
    seconds = time.monotonic() - began
    if deployed.skipped:
        output.say("✓ Deployment skipped: no changes detected! ⏭️")
        output.out().print(f"{declared.name} v{deployed.version} (skipped)")
    else:
        output.say(f"✓ App deployed in {seconds:.3f}s! 🎉")
        output.out().print(f"{declared.name} v{deployed.version}")
    if deployed.canary is not None:
        show = canaries.show_begun if deployed.canary.ended_at is None else canaries.show_ended
        show(declared.name, deployed.canary)
    output.show_endpoints(deployed.endpoints)
    if any(endpoint.custom_domains for endpoint in deployed.endpoints):
        await _check_domains(settings, deployed.app)


async def _check_domains(settings: Settings, app: str) -> None:
    """Warn for each custom domain of the app that does not lead to the server."""
    async with server.running(settings) as client:
        for domain in await client.domains.every():
            if domain.app == app and domain.problem:
                output.warn(domain.problem)


async def _upload(
    settings: Settings,
    declared: Declared,
    *,
    tag: str,
    strategy: str,
    drain_s: float | None = None,
    expires_s: float | None = None,
    canary: "Canary | None" = None,
    timestamps: bool = False,
    shows: bool = True,
    builds: live.Builds | None = None,
    plain: bool = False,
) -> "Deployed":
    """Deploy a script's manifest and files."""
    async with server.background(settings) as client:
        from homeport.contract.api.deploys import Deploy  # not earlier: the server starts meanwhile

        with live.line("uploading files", plain=plain or not shows) as uploading:
            await client.blobs.upload(declared.sources, uploading.sized)
        order = Deploy(
            manifest=declared.manifest,
            tag=tag,
            strategy=strategy,
            drain_s=drain_s,
            expires_s=expires_s,
            canary=canary,
        )
        try:
            return await follow(
                client.deploys.deploy(declared.name, order),
                timestamps=timestamps,
                shows=shows,
                builds=builds,
            )
        except Failure as failure:
            script.quote(failure, declared.sources.values())
            raise
        except asyncio.CancelledError:  # Ctrl-C
            output.say(
                f"interrupted: the server continues with the deploy of `{declared.name}`; "
                f"`homeport app history {declared.name}` shows whether it serves"
            )
            raise


async def deploy_declared(
    settings: Settings, declared: Declared, *, tag: str, strategy: str, shows: bool
) -> None:
    """Do the same for `app.deploy()` in a script, which shows nothing without `modal.enable_output()`."""
    began = time.monotonic()
    deployed = await _upload(settings, declared, tag=tag, strategy=strategy, shows=shows)
    if shows:
        output.say(f"✓ App deployed in {time.monotonic() - began:.3f}s! 🎉")
        for endpoint in deployed.endpoints:
            if endpoint.url:
                output.say(f"  {endpoint.tag}  {endpoint.url}  (or {endpoint.local_url})")


async def follow(
    events: "AsyncIterator[Event]",
    *,
    timestamps: bool = False,
    shows: bool = True,
    builds: live.Builds | None = None,
) -> "Deployed":
    """Show a deploy as it goes, if `shows`; return how it ended."""
    shown, progress = output.Shown(), builds or live.Builds(plain=not shows)
    deployed: Deployed | None = None
    try:
        progress.begin()
        async for event in events:
            shown.add(event)
            if event.event == "done":
                deployed = event.deployed
            elif not shows:
                continue
            elif event.event == "log":
                output.show_line(event.line, timestamps=timestamps, talk=True)
            elif event.event == "progress":
                progress.show(event)
    except Failure as failure:
        progress.fail()
        shown.shorten(failure)
        raise
    finally:
        progress.end()
    if deployed is None:
        raise ServerUnreachable(
            "the server ended in the middle of the deploy",
            hint="`homeport app list` says what serves",
        )
    return deployed
