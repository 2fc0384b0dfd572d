"""Reads the files that a Dockerfile's COPY takes from its directory; other files are not read."""

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
    """Return a step's arguments: path -> hash, which files are executable, and the directory.

    `beside` is the Dockerfile, whose own `.dockerignore` comes first. Raises `InvalidError` for a text that cannot be
    carried out.
    """
    if not context.is_local():
        return {}
    try:
        sources = _sources(dockerfile.parse(text), build_args or {})
    except dockerfile.UnfitError as error:
        raise InvalidError(f"`{step}`: {error}") from None
    if not sources:
        return {}
    base = local.directory(step, str(Path(context_dir or ".").expanduser().absolute()))
    ignored = local.ignored(step, base, ignore) if ignore is not None else _listed(base, beside)
    files = {
        path.relative_to(base).as_posix(): path
        for path in local.below(base, ignored)
        if _is_wanted(path.relative_to(base).as_posix(), sources)
    }
    for name, path_given in (context_files or {}).items():
        files[name.removeprefix("./").lstrip("/")] = Path(path_given).expanduser().absolute()
    from homeport.sdk.files import source

    for name, path in files.items():
        source.check_name(name, path)
        watched.add(path)
    return {
        "files": {name: source.digest(path) for name, path in files.items()},
        "executables": [name for name, path in files.items() if path.stat().st_mode & 0o100],
        "given": {name: str(path) for name, path in files.items()},
    }


def take(options: dict[str, Any]) -> dict[str, Any]:
    """Remove the options that say where COPY takes its files from, and return them; the step keeps the contents
    instead.
    """
    options_of_copy = {
        name: options.pop(name, None) for name in ("context_dir", "context_files", "ignore")
    }
    options.pop("context_mount", None)
    return {**options_of_copy, "build_args": options.get("build_args")}


def _sources(
    instructions: Iterable[dockerfile.Instruction], variables: Mapping[str, str]
) -> list[str]:
    paths = []
    for instruction in instructions:
        names: list[str] = []
        if instruction.name in ("COPY", "ADD") and "from" not in instruction.flags:
            names = [n for n in dockerfile.copied(instruction)[0] if not dockerfile.is_url(n)]
            names = [n for n in names if not n.startswith("<<")]
        elif instruction.name == "RUN":
            binds = [m for m in instruction.mounts if m["type"] == "bind" and "from" not in m]
            names = [dockerfile.mounted(mount)[1] for mount in binds]
        for name in names:
            text = dockerfile.expand(name, variables) if not _unknown(name, variables) else "."
            paths.append(text.removeprefix("/").removeprefix("./").rstrip("/") or ".")
    return paths


def _unknown(name: str, variables: Mapping[str, str]) -> bool:
    """Return whether the name has a variable whose value is known only when the image is built."""
    return "$" in name and not any(f"${key}" in name or f"${{{key}}}" in name for key in variables)


def _is_wanted(path: str, sources: Iterable[str]) -> bool:
    for name in sources:
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
