"""Whether a port of another machine can be reached: both ends ask, because a firewall may stand between them in one direction alone."""

import asyncio
import os

CONNECT_S = 2.0


async def unreached(host: str, port: int) -> str:
    """Return why no connection to a port can be opened, as behind a firewall; empty if one can."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        async with asyncio.timeout(CONNECT_S):
            _reader, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"{where}: nothing answers"
    except OSError as error:
        return f"{where}: {os.strerror(error.errno) if error.errno else error}"
    writer.transport.abort()
    return ""
