"""Fetches and unpacks a registry's image: each layer once, for all images that have it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from homeport.contract.errors import ImageError
from homeport.contract.image import PATH
from homeport.contract.output import PASSING
from homeport.node.images import command, store
from homeport.node.images.owned import hands
from homeport.node.images.rooted import registry
from homeport.node.images.rooted.operations import SHELL, Config
from homeport.node.images.rooted.registry import Fetched
from homeport.node.images.store import Say

LOOK_EVERY_S = 0.5
MIB = 1024**2


async def fetch(tag: str, how: str, build: Path, secrets: Mapping[str, str], say: Say) -> Fetched:
    """Fetch an image into `build` with skopeo; report the progress meanwhile."""
    layout = build / "image"
    authfile = None
    found_credentials = await asyncio.to_thread(registry.credentials, how, tag, secrets)
    if found_credentials is not None:
        authfile = build / "auth.json"
        registry.write_authfile(authfile, tag, *found_credentials)
    words = registry.words(tag, layout, authfile=authfile)
    telling = asyncio.create_task(_tell(layout, say))
    try:
        result = await command.run(words, environ=_environ(), cwd=Path("/"), say=lambda _line: None)
    finally:
        telling.cancel()
        if authfile is not None:
            authfile.unlink()
    if result.code:
        raise ImageError(
            f"`{tag}` cannot be fetched: {reason(result.lines)}", traceback=result.text
        )
    return await asyncio.to_thread(registry.read, layout)


def name_of(digest: str) -> str:
    """The directory of a layer: the same for all images that have it."""
    return f"layer-{digest.rpartition(':')[2][:32]}"


def unpacking(directory: Path, archive: Path) -> Callable[[Say], Awaitable[None]]:
    """Return the function that unpacks an archive into a layer's directory."""

    async def build(_tell: Say) -> None:
        files = directory / "files"
        hands.mkdir(files)
        counted = await hands.counts({"do": "unpack", "archive": str(archive), "into": str(files)})
        record = {"layer": directory.name, "size_bytes": counted["bytes"]}
        await store.complete(directory, record)
        await asyncio.to_thread(archive.unlink, missing_ok=True)

    return build


def config_of(settings: Mapping[str, Any]) -> Config:
    """Return the image's settings for its containers (OCI image spec, config.md); `ImageError` for others.

    Who made the image wrote them, and no registry looks at them.
    """
    pairs = [variable.partition("=") for variable in _texts(settings, "Env")]
    environ = {name: value for name, _, value in pairs if name}
    workdir = settings.get("WorkingDir") or ""
    if not _is_fit(workdir):
        raise _unfit("WorkingDir")
    return Config(
        environ={"PATH": PATH, **environ},
        workdir=workdir.rstrip("/"),
        shell=_texts(settings, "Shell") or SHELL,
        entrypoint=_texts(settings, "Entrypoint"),
    )


def _texts(settings: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return a setting that is a list of texts."""
    values = settings.get(name) or []
    if not isinstance(values, list) or not all(map(_is_fit, values)):
        raise _unfit(name)
    return tuple(values)


def _is_fit(value: object) -> bool:
    """Return whether a program can get a value: a text without NUL, and without half a character."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unfit(name: str) -> ImageError:
    return ImageError(f"the image's setting `{name}` is not what a program can get")


def reason(lines: list[str]) -> str:
    """Return the reason in skopeo's last message.

    >>> reason(['time="…" level=fatal msg="initializing source docker://x/y: reading manifest a: manifest unknown"'])
    'manifest unknown'
    """
    for line in reversed(lines):
        _, mark, text = line.partition(' msg="')
        if mark and "level=fatal" in line:
            return text.rstrip('"').replace('\\"', '"').rpartition(": ")[2]
    return lines[-1] if lines else "skopeo said nothing"


async def _tell(layout: Path, say: Say) -> None:
    last = -1
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        fetched = await asyncio.to_thread(_size, layout)
        if fetched // MIB != last:
            last = fetched // MIB
            say(f"{PASSING}{last} MiB fetched")


def _size(layout: Path) -> int:
    total = 0
    for path in layout.glob("**/*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total


def _environ() -> dict[str, str]:
    import os

    passed_on = (
        "PATH",
        "HOME",
        "XDG_RUNTIME_DIR",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "DOCKER_CONFIG",
    )
    named = {k: v for k, v in os.environ.items() if k in passed_on or k.lower().endswith("_proxy")}
    return named | {k: v for k, v in os.environ.items() if k.startswith("CONTAINERS_")}
