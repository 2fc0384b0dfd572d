"""The directory that a Dockerfile's COPY takes files from; only what it names is read."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from homeport.contract import dockerfile
from homeport.sdk import context, watched
from homeport.sdk.exception import InvalidError
from homeport.sdk.files import local


def read(
    step: str,
    text: str,
    beside: Path | None = None,
    *,
    context_dir: Any = None,
    ignore: Any = None,
    context_files: Mapping[str, str] | None = None,
    build_args: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a step's arguments: path -> hash, which are executable, and the directory.

    `beside` is the Dockerfile, whose own `.dockerignore` comes first. Raises `InvalidError` for a text that cannot be
    carried out.
    """
    if not context.is_local():
        return {}
    try:
        wanted = _sources(dockerfile.parse(text), build_args or {})
    except dockerfile.UnfitError as error:
        raise InvalidError(f"`{step}`: {error}") from None
    if not wanted:
        return {}
    base = local.directory(step, str(Path(context_dir or ".").expanduser().absolute()))
    ignored = local.ignored(step, base, ignore) if ignore is not None else _listed(base, beside)
    found = {
        path.relative_to(base).as_posix(): path
        for path in local.below(base, ignored)
        if _is_wanted(path.relative_to(base).as_posix(), wanted)
    }
    for name, given in (context_files or {}).items():
        found[name.removeprefix("./").lstrip("/")] = Path(given).expanduser().absolute()
    from homeport.sdk.files import source

    for path in found.values():
        watched.add(path)
    return {
        "files": {name: source.digest(path) for name, path in found.items()},
        "executables": [name for name, path in found.items() if path.stat().st_mode & 0o100],
        "given": {name: str(path) for name, path in found.items()},
    }


def taken(options: dict[str, Any]) -> dict[str, Any]:
    """Take the options out that say where COPY takes its files from; the step keeps what was read."""
    found = {name: options.pop(name, None) for name in ("context_dir", "context_files", "ignore")}
    options.pop("context_mount", None)
    return {**found, "build_args": options.get("build_args")}


def _sources(instructions: Iterable[dockerfile.Instruction], given: Mapping[str, str]) -> list[str]:
    found = []
    for one in instructions:
        names: list[str] = []
        if one.name in ("COPY", "ADD") and "from" not in one.flags:
            names = [n for n in dockerfile.copied(one)[0] if not dockerfile.is_url(n)]
            names = [n for n in names if not n.startswith("<<")]
        elif one.name == "RUN":
            binds = [m for m in one.mounts if m["type"] == "bind" and "from" not in m]
            names = [dockerfile.mounted(mount)[1] for mount in binds]
        for name in names:
            text = dockerfile.expand(name, given) if not _unknown(name, given) else "."
            found.append(text.removeprefix("/").removeprefix("./").rstrip("/") or ".")
    return found


def _unknown(name: str, given: Mapping[str, str]) -> bool:
    """Return whether a variable in it is known only when the image is built."""
    return "$" in name and not any(f"${key}" in name or f"${{{key}}}" in name for key in given)


def _is_wanted(path: str, wanted: Iterable[str]) -> bool:
    for name in wanted:
        depth = name.count("/") + 1
        top = "/".join(path.split("/")[:depth])
        if name in (".", path) or path.startswith(f"{name}/") or fnmatchcase(top, name):
            return True
    return False


def _listed(base: Path, beside: Path | None) -> list[str]:
    own = [beside.with_name(f"{beside.name}.dockerignore")] if beside is not None else []
    for path in (*own, base / ".dockerignore"):
        watched.add(path)
        if path.is_file():
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
            return [line.lstrip("/") for line in lines if line and not line.startswith("#")]
    return []
