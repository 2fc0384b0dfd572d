"""`homeport volume …`: directories that functions share, and the files in them."""

import asyncio
import contextlib
import os
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, NoReturn

import typer

from homeport.cli import live, options, output, server
from homeport.cli.image import size
from homeport.contract import shape
from homeport.contract.api.volumes import (
    Copy,
    FileEntry,
    FileQuery,
    FilesQuery,
    NewVolume,
    VolumesQuery,
)
from homeport.contract.errors import AlreadyExists, BadRequest, NotFound
from homeport.contract.sizes import MIB
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.client import Client

CHUNK_BYTES = MIB

app = typer.Typer(
    help="Volumes: create, list, ls, put, get, rm, cp, rename, delete.", no_args_is_help=True
)

VolumeName = Annotated[str, typer.Argument(metavar="NAME", help="The volume's name.")]
Path_ = Annotated[str, typer.Argument(metavar="PATH", help="A path in the volume.")]
Recursive = Annotated[bool, typer.Option("-r", "--recursive", help="Directories too.")]
Force = Annotated[bool, typer.Option("-f", "--force", help="Replace files that exist.")]


@app.command()
def create(
    name: VolumeName, json: options.Json = False, environment: options.Environment = None
) -> None:
    """Create a volume."""
    asyncio.run(_create(options.load(environment=environment), name, json=json))


@app.command("list")
def list_(json: options.Json = False, environment: options.Environment = None) -> None:
    """List the volumes, with their sizes."""
    asyncio.run(_list(options.load(environment=environment), json=json))


@app.command()
def ls(
    name: VolumeName,
    path: Path_ = "/",
    recursive: Recursive = False,
    json: options.Json = False,
    environment: options.Environment = None,
) -> None:
    """List files."""
    asyncio.run(
        _ls(options.load(environment=environment), name, path, recursive=recursive, json=json)
    )


@app.command()
def put(
    name: VolumeName,
    local: Annotated[Path, typer.Argument(metavar="LOCAL", help="A file or a directory.")],
    path: Path_ = "/",
    force: Force = False,
    environment: options.Environment = None,
) -> None:
    """Upload a file or a directory; into PATH if that ends with `/`."""
    asyncio.run(_put(options.load(environment=environment), name, local, path, force=force))


@app.command()
def get(
    name: VolumeName,
    path: Path_,
    local: Annotated[
        Path, typer.Argument(metavar="LOCAL", help="Where to; `-` is standard output.")
    ] = Path(),
    force: Force = False,
    environment: options.Environment = None,
) -> None:
    """Download a file or a directory."""
    asyncio.run(_get(options.load(environment=environment), name, path, local, force=force))


@app.command()
def rm(
    name: VolumeName,
    path: Path_,
    recursive: Recursive = False,
    environment: options.Environment = None,
) -> None:
    """Remove a file, or with -r a directory."""
    asyncio.run(_rm(options.load(environment=environment), name, path, recursive=recursive))


@app.command()
def cp(
    name: VolumeName,
    paths: Annotated[list[str], typer.Argument(metavar="PATH... TARGET", help="In the volume.")],
    recursive: Recursive = False,
    environment: options.Environment = None,
) -> None:
    """Copy files within a volume."""
    if len(paths) < 2:
        raise typer.BadParameter("say what to copy, and where to")
    asyncio.run(_cp(options.load(environment=environment), name, paths, recursive=recursive))


@app.command()
def rename(
    name: VolumeName,
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")],
    environment: options.Environment = None,
) -> None:
    """Give a volume another name; containers that have it mounted keep it."""
    asyncio.run(_rename(options.load(environment=environment), name, new))


@app.command()
def delete(
    name: VolumeName,
    yes: options.Yes = False,
    allow_missing: Annotated[bool, typer.Option(help="Fine if there is none.")] = False,
    environment: options.Environment = None,
) -> None:
    """Delete a volume and its files; refused while an app uses it."""
    asyncio.run(
        _delete(options.load(environment=environment), name, yes=yes, allow_missing=allow_missing)
    )


async def _create(settings: Settings, name: str, *, json: bool) -> None:
    async with server.background(settings) as client:
        created = await client.volumes.create(NewVolume(name=name))
    if json:
        output.show_json(created)
        return
    output.say(f"✓ Volume `{name}`. In your script:")
    output.out().print(
        f'volume = modal.Volume.from_name("{name}")\n\n'
        '@app.function(volumes={"/data": volume})\n'
        'def some_function():\n    open("/data/file", "w")'
    )


async def _list(settings: Settings, *, json: bool) -> None:
    async with server.running(settings) as client:
        volumes = await client.volumes.every(VolumesQuery(sizes=True))
    if json:
        output.show_json(volumes)
        return
    rows = [
        (v.name, v.files, size(v.size_bytes or 0), output.local_time(v.created_at)) for v in volumes
    ]
    output.show_table(("Name", "Files", "Size", "Created at"), rows, empty="no volume")


async def _ls(settings: Settings, name: str, path: str, *, recursive: bool, json: bool) -> None:
    async with server.running(settings) as client:
        entries = [
            e async for e in client.volumes.files(name, FilesQuery(path=path, recursive=recursive))
        ]
    if json:
        output.show_json(entries)
        return
    rows = [
        (
            entry.path + ("/" if entry.type == "directory" else ""),
            entry.type,
            size(entry.size) if entry.type == "file" else "",
            output.local_time(entry.mtime),
        )
        for entry in entries
    ]
    output.show_table(("Path", "Type", "Size", "Changed at"), rows, empty="no file")


async def _put(settings: Settings, name: str, local: Path, path: str, *, force: bool) -> None:
    files = _local_files(local, path)
    went = _Went(sum(source.stat().st_size for source, _ in files))
    async with server.background(settings) as client:
        with live.line(f"uploading to `{name}`") as went.line:
            for source, target in files:
                await _upload(client, name, source, target, went, force=force)
            await client.volumes.commit(name)
    output.say(f"✓ {len(files)} {'file is' if len(files) == 1 else 'files are'} in `{name}`")


def _local_files(local: Path, path: str) -> list[tuple[Path, str]]:
    """Return each file to upload and its path in the volume; devices and the like are refused or left out."""
    try:
        kind = local.stat().st_mode
        below = sorted(_below(local)) if stat.S_ISDIR(kind) else []
    except OSError as error:
        raise BadRequest(f"`{error.filename or local}` cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(kind):
        root = path.rstrip("/")
        for file in below:
            if not shape.is_text(str(file)):
                raise BadRequest(f"the name of {str(file)!a} is not UTF-8 text", hint="rename it")
        return [(file, f"{root}/{file.relative_to(local).as_posix()}") for file in below]
    if not stat.S_ISREG(kind):
        raise BadRequest(f"`{local}` is not a file or a directory")
    return [(local, f"{path}{local.name}" if path.endswith("/") else path)]


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and of those in it; `OSError` for one that cannot be read."""

    def refuse(error: OSError) -> NoReturn:
        raise error

    for place, _, names in os.walk(folder, onerror=refuse):
        yield from (file for name in names if (file := Path(place, name)).is_file())


class _Went:
    """The bytes of an upload or a download that were copied, and all of them."""

    def __init__(self, total: int) -> None:
        self.line: live.Line | None = None
        self._done, self._total = 0, total

    def add(self, count: int) -> None:
        self._done += count
        if self.line is not None:
            self.line.sized(self._done, max(self._done, self._total))


async def _upload(
    client: "Client", name: str, source: Path, target: str, went: _Went, *, force: bool
) -> None:
    try:
        file = await asyncio.to_thread(source.open, "rb")
    except OSError as error:
        raise BadRequest(f"`{source}` cannot be read: {error.strerror}") from None

    async def content() -> AsyncIterator[bytes]:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
            went.add(len(chunk))

    with file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
        query = FileQuery(path=target, mode=f"{mode:o}", force=force)
        try:
            await client.volumes.write(name, query, content())
        except AlreadyExists as failure:
            failure.hint = failure.hint or "`--force` replaces it"
            raise


async def _get(settings: Settings, name: str, path: str, local: Path, *, force: bool) -> None:
    async with server.running(settings) as client:
        if str(local) == "-":
            async for chunk in client.volumes.read(name, path):
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            return
        query = FilesQuery(path=path, recursive=True)
        entries = [entry async for entry in client.volumes.files(name, query)]
        inside = "/".join(part for part in path.split("/") if part not in ("", "."))
        went = _Went(sum(entry.size for entry in entries if entry.type == "file"))
        with live.line(f"downloading from `{name}`") as went.line, _writing(local):
            if len(entries) == 1 and entries[0].path == inside and entries[0].type != "directory":
                target = await asyncio.to_thread(_into, local, Path(inside).name)
                await _download(client, name, inside, target, went, force=force)
                count = 1
            else:
                count = await _get_directory(
                    client, name, inside, entries, local, went, force=force
                )
    output.say(f"✓ {count} {'file is' if count == 1 else 'files are'} in {local}")


@contextlib.contextmanager
def _writing(local: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadRequest(
            f"`{error.filename or local}` cannot be written: {error.strerror}"
        ) from None


def _into(local: Path, name: str) -> Path:
    return local / name if local.is_dir() else local


async def _get_directory(
    client: "Client",
    name: str,
    inside: str,
    existing: list[FileEntry],
    local: Path,
    went: _Went,
    *,
    force: bool,
) -> int:
    count = 0
    for entry in existing:
        relative = entry.path[len(inside) :].lstrip("/")
        target = local / relative
        # The server's word is data, too: nothing is written outside of LOCAL.
        if not relative or ".." in Path(relative).parts:
            continue
        if entry.type == "directory":
            target.mkdir(parents=True, exist_ok=True)
        elif entry.type == "file":
            await _download(client, name, entry.path, target, went, force=force)
            count += 1
        else:
            output.warn(f"`{entry.path}` is a {entry.type} and is left out")
    return count


async def _download(
    client: "Client", name: str, path: str, target: Path, went: _Went, *, force: bool
) -> None:
    """A file that is cut off does not get its name."""
    if not force and await asyncio.to_thread(os.path.lexists, target):
        raise AlreadyExists(f"`{target}` exists", hint="`--force` replaces it")
    part = target.with_name(f".{target.name[:200]}.part")
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        try:
            with part.open("xb") as file:
                await _written(client, name, path, file, went)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


async def _written(client: "Client", name: str, path: str, file: IO[bytes], went: _Went) -> None:
    async for chunk in client.volumes.read(name, path):
        await asyncio.to_thread(file.write, chunk)
        went.add(len(chunk))


async def _rm(settings: Settings, name: str, path: str, *, recursive: bool) -> None:
    async with server.running(settings) as client:
        with live.line(f"removing `{path}`"):
            await client.volumes.remove(name, FilesQuery(path=path, recursive=recursive))
    output.say(f"✓ `{path}` is removed")


async def _cp(settings: Settings, name: str, paths: list[str], *, recursive: bool) -> None:
    *sources, target = paths
    async with server.running(settings) as client:
        wanted = Copy(sources=tuple(sources), target=target, recursive=recursive)
        with live.line("copying"):
            await client.volumes.copy(name, wanted)
    output.say(f"✓ copied to `{target}`")


async def _rename(settings: Settings, name: str, new: str) -> None:
    async with server.running(settings) as client:
        await client.volumes.rename(name, new)
    output.say(f"✓ Volume `{name}` is now `{new}`")


async def _delete(settings: Settings, name: str, *, yes: bool, allow_missing: bool) -> None:
    options.confirm(f"Delete the volume `{name}` and all its files?", yes=yes)
    async with server.running(settings) as client:
        try:
            await client.volumes.delete(name)
        except NotFound:
            if not allow_missing:
                raise
            output.say(f"there is no volume `{name}`")
            return
    output.say(f"✓ Volume `{name}` is deleted")
