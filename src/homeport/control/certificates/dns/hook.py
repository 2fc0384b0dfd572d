"""Runs a command of the user's that sets and removes the records.

    HOOK set    _acme-challenge.apps.example.com VALUE
    HOOK remove _acme-challenge.apps.example.com VALUE

The same is in the environment: HOMEPORT_DNS_ACTION, HOMEPORT_DNS_NAME, HOMEPORT_DNS_VALUE. Status 0 means that the
zone's servers answer with the value (`set`), or that it is gone (`remove`, also if it was never there). The command has
2 minutes. Its output goes to server.log. It is started without a shell, with the server's environment but without
homeport's own variables, so it sees no password of homeport.
"""

import asyncio
import contextlib
import logging
import os
import signal

from homeport.control.certificates.problems import OrderFailed, shown

TIME_S = 120.0
MAX_OUTPUT = 64 * 1024  # bytes; the rest is read and dropped

log = logging.getLogger(__name__)


class Hook:
    """A command."""

    def __init__(self, command: str, *, time_s: float = TIME_S) -> None:
        self._path = command
        self._time_s = time_s

    async def add(self, name: str, value: str) -> None:
        """Run the command with `set`."""
        await self._run("set", name, value)

    async def remove(self, name: str, value: str) -> None:
        """Run the command with `remove`."""
        await self._run("remove", name, value)

    async def _run(self, action: str, name: str, value: str) -> None:
        own = {
            "HOMEPORT_DNS_ACTION": action,
            "HOMEPORT_DNS_NAME": name,
            "HOMEPORT_DNS_VALUE": value,
        }
        environ = {k: v for k, v in os.environ.items() if not k.startswith("HOMEPORT_")}
        try:
            process = await asyncio.create_subprocess_exec(
                *(self._path, action, name, value),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={**environ, **own},
                start_new_session=True,  # so that all that it starts can be ended with it
            )
        except (OSError, ValueError) as error:
            raise OrderFailed(
                f"the DNS hook `{self._path}` cannot be started: {error}",
                hint="`dns_hook` is the path of a file that may be executed",
            ) from None
        try:
            async with asyncio.timeout(self._time_s):
                last = await _logged(process, f"{action} {name}")
                status = await process.wait()
        except TimeoutError:
            raise OrderFailed(
                f"the DNS hook has not ended `{action} {name}` in {self._time_s:g} s",
                hint="server.log in the home has what it printed",
            ) from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if status:
            raise OrderFailed(
                f"the DNS hook failed at `{action} {name}` with status {status}: {shown(last)}",
                hint="server.log in the home has all that it printed",
            )


async def _logged(process: asyncio.subprocess.Process, what: str) -> str:
    """Copy the command's output to the log; return its last line."""
    assert process.stdout is not None
    output = bytearray()
    while chunk := await process.stdout.read(4096):
        output += chunk[: max(0, MAX_OUTPUT - len(output))]
    lines = [shown(line) for line in output.decode(errors="replace").splitlines() if line.strip()]
    for line in lines:
        log.info("DNS hook, %s: %s", what, line)
    return lines[-1] if lines else "it printed nothing"
