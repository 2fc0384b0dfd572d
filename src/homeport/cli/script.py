"""Loads a user's script in a fresh interpreter and reads what it declares (sdk/declare.py)."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any

from homeport.contract.errors import Failure, ScriptError


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a script declares."""

    manifest: dict[str, Any]
    sources: dict[str, str]  # hash -> path
    watch: list[str]
    warnings: list[str]

    @property
    def name(self) -> str:
        """The app's."""
        return str(self.manifest["app_name"])


async def declare(ref: str, *, module: bool = False, name: str = "") -> Declared:
    """What the script declares; `ScriptError` where it cannot be loaded.

    What it prints goes to stderr, so that this command's own output stays what it is.
    """
    read, write = os.pipe()
    words = ["-m", "homeport.sdk.declare", ref]
    words += ["-m"] if module else []
    words += ["--name", name] if name else []
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=2,
            pass_fds=(write,),
            env={**os.environ, "HOMEPORT_DECLARE_FD": str(write)},
            start_new_session=True,  # Ctrl-C is for this command to handle
        )
    finally:
        os.close(write)
    try:
        text = await _read(read)
        await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if not text:
        raise ScriptError(f"loading `{ref}` ended with exit code {process.returncode}")
    told = json.loads(text)
    if "error" in told:
        raise Failure.from_dict(told["error"])
    return Declared(**told)


async def _read(descriptor: int) -> bytes:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    pipe = os.fdopen(descriptor, "rb")
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        return await reader.read()
    finally:
        transport.close()
