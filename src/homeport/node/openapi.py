"""Lays the files of FastAPI's `/docs` and `/redoc` where each container sees them.

They come from the package fastapi-offline, which is in homeport's own environment; an image has other packages.
`runner/openapi` reads them.
"""

import gzip
import importlib.util
import logging
import os
import re
from pathlib import Path

from homeport.contract.openapi import FOLDER, KINDS

PACKAGE = "fastapi_offline"
#: ReDoc shows its maker's logo, and downloads it from the maker's host. It omits an image that cannot be loaded.
ELSEWHERE, NOTHING = re.compile(rb'src:"https?://[^"]*"'), b'src:"data:,"'

log = logging.getLogger(__name__)


def lay(lib: Path) -> None:
    """Write the files below `lib`, compressed, unless they are there already. Blocks."""
    spec = importlib.util.find_spec(PACKAGE)  # does not import it
    if spec is None or spec.origin is None:
        log.warning("`/docs` of FastAPI apps needs the internet: %s is not installed", PACKAGE)
        return
    try:
        (lib / FOLDER).mkdir(mode=0o755, exist_ok=True)
        for name in KINDS:
            _write(Path(spec.origin).parent / "static" / name, lib / FOLDER / f"{name}.gz")
    except OSError as error:
        log.warning("`/docs` of FastAPI apps needs the internet: %s", error)


def _write(source: Path, target: Path) -> None:
    status = source.stat()
    if target.exists() and target.stat().st_mtime_ns == status.st_mtime_ns:
        return
    part = target.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(gzip.compress(ELSEWHERE.sub(NOTHING, source.read_bytes()), 6))
    part.chmod(0o644)
    os.utime(part, ns=(status.st_mtime_ns, status.st_mtime_ns))
    part.replace(target)
