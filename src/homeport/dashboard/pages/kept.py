"""The stored objects of apps: volumes, dicts, queues and secrets."""

import asyncio
import json
import posixpath
from urllib.parse import quote

from starlette.responses import Response

from homeport.contract import codec, frames, pickled
from homeport.contract.api.secrets import SecretList
from homeport.contract.api.shared import Count, ObjectList, StoredObject
from homeport.contract.api.volumes import FileEntry, FileQuery, FilesQuery, VolumeList, VolumesQuery
from homeport.contract.errors import NotFound
from homeport.dashboard import render
from homeport.dashboard.pages.page import Page, Part, Visit, section, segment
from homeport.dashboard.pages.passing import Passing
from homeport.dashboard.pages.table import Cell, Column, Row, table

MOST_FILES = 2000
MOST_TEXT = 500  # characters of a value


async def volumes(visit: Visit) -> Part:
    """List the volumes."""
    listed = await visit.api.get(VolumeList, "/v1/volumes", VolumesQuery(sizes=True))
    rows = [
        Row(
            id=stored.id,
            cells=[
                Cell(text=stored.name, href=visit.path("/volume", name=stored.name)),
                render.size(stored.size_bytes),
                render.number(stored.files),
                render.moment(stored.created_at),
            ],
        )
        for stored in listed.volumes
    ]
    columns = [Column(name="Volume"), Column(name="Size", kind="n"), Column(name="Files", kind="n"), Column(name="Created")]  # fmt: skip
    shown = table("", columns, rows, empty="No volume has a name here.")
    return section("Volumes", shown, find="#rows")


async def volume(visit: Visit) -> Part:
    """List a directory of a volume."""
    name, path = visit.parameter("name"), visit.parameter("path", 4096).strip("/")
    entries = []
    async with visit.api.stream(
        f"/v1/volumes/{segment(name)}/files", FilesQuery(path=path)
    ) as answer:
        async for line in answer.aiter_lines():
            data = json.loads(line) if line else {}
            if data.get("event") == "entry":
                entries.append(codec.decode(FileEntry, data))
            elif "error" in data:
                raise NotFound(str(data["error"].get("message", "")))
            if len(entries) >= MOST_FILES:
                break
    entries.sort(key=lambda entry: (entry.type != "directory", entry.path))
    rows = [
        Row(
            id=str(place),
            cells=[
                Cell(text=posixpath.basename(entry.path), href=_href(visit, name, entry)),
                entry.type,
                "" if entry.type == "directory" else render.size(entry.size),
                render.moment(entry.mtime),
            ],
        )
        for place, entry in enumerate(entries)
    ]
    columns = [Column(name="Name"), Column(name="Kind"), Column(name="Size", kind="n"), Column(name="Changed")]  # fmt: skip
    shown = table("", columns, rows, empty="This directory is empty.")
    crumbs = [("", name)]
    for word in filter(None, path.split("/")):
        crumbs.append((posixpath.join(crumbs[-1][0], word), word))
    trail = render.template("trail", visit=visit, name=name, crumbs=crumbs, most=MOST_FILES, is_cut=len(entries) >= MOST_FILES)  # fmt: skip
    return section(f"Volume {name}", trail, shown, find="#rows")


def _href(visit: Visit, name: str, entry: FileEntry) -> str:
    if entry.type == "directory":
        return visit.path("/volume", name=name, path=entry.path)
    return visit.path("/volume/file", name=name, path=entry.path) if entry.type == "file" else ""


async def file(visit: Visit) -> Response:
    """Download a file of a volume; a browser saves it, and shows nothing of it."""
    name, path = visit.parameter("name"), visit.parameter("path", 4096)
    reading = visit.api.stream(f"/v1/volumes/{segment(name)}/file", FileQuery(path=path))
    answer = await reading.__aenter__()

    saved = quote(posixpath.basename(path), safe="")
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{saved}"}
    if length := answer.headers.get("content-length"):
        # Else the browser does not see a file that was cut off.
        headers["Content-Length"] = length
    return Passing(answer, reading, headers=headers, media_type="application/octet-stream")


async def objects(visit: Visit) -> Part:
    """List dicts and queues."""
    dicts, queues = await asyncio.gather(
        visit.api.get(ObjectList, "/v1/dicts"), visit.api.get(ObjectList, "/v1/queues")
    )
    columns = [Column(name="Name"), Column(name="Created"), Column(name="Length", kind="n")]

    def shown(title: str, kind: str, listed: ObjectList) -> str:
        rows = [
            Row(
                id=stored.id,
                cells=[
                    Cell(text=stored.name, href=visit.path("/object", kind=kind, name=stored.name)),
                    render.moment(stored.created_at),
                    render.number(stored.length),
                ],
            )
            for stored in listed.objects
        ]
        return table(title, columns, rows, empty=f"No {kind} has a name here.", id=kind)

    return section(
        "Dicts and queues", shown("Dicts", "dict", dicts), shown("Queues", "queue", queues)
    )


async def one_object(visit: Visit) -> Part:
    """Show the first entries of a dict, or values of a queue; they stay there."""
    name, is_dict = visit.parameter("name"), visit.parameter("kind") != "queue"
    path = f"/v1/{'dicts' if is_dict else 'queues'}/{segment(name)}"
    stored = await visit.api.get(StoredObject, path)
    raw = await visit.api.raw("GET", f"{path}/items")
    _, *parts = frames.unpack(raw)
    texts = [_text(part) for part in parts]
    if is_dict:
        pairs = list(zip(texts[::2], texts[1::2], strict=True))
        rows = [Row(id=str(n), cells=[key, value]) for n, (key, value) in enumerate(pairs)]
        columns = [Column(name="Key"), Column(name="Value", kind="code", full=True)]
    else:
        rows = [Row(id=str(n), cells=[n + 1, value]) for n, value in enumerate(texts)]
        columns = [Column(name="Place"), Column(name="Value", kind="code", full=True)]
    count = stored.length
    if count is None and not is_dict:
        count = (await visit.api.get(Count, f"{path}/length")).count
    lead = (
        f"The first {len(rows)}"
        + (f" of {count:,}" if count is not None else "")
        + ". Nothing is taken out by looking."
    )
    return section(name, table("", columns, rows, empty="It is empty."), lead=lead, find="#rows")


def _text(data: bytes | None) -> str:
    """Return a value as text, without running what its pickle may say."""
    if data is None:
        return "-"
    text = pickled.shown(data)
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}…"


async def secrets(visit: Visit) -> Part:
    """List the names of secrets and of their keys; no page has a value."""
    listed = await visit.api.get(SecretList, "/v1/secrets")
    rows = [
        Row(
            id=secret.name,
            cells=[secret.name, ", ".join(secret.keys), render.moment(secret.created_at), render.moment(secret.updated_at)],
        )
        for secret in listed.secrets
    ]  # fmt: skip
    columns = [Column(name="Secret"), Column(name="Keys", kind="code", full=True), Column(name="Created"), Column(name="Changed")]  # fmt: skip
    shown = table(
        "", columns, rows, empty="There is no secret: `homeport secret create` makes one."
    )
    return section("Secrets", shown, lead="Names only: no page shows a value.")


PAGES = (
    Page(path="/volumes", handler=volumes),
    Page(path="/volume", handler=volume),
    Page(path="/volume/file", handler=file),
    Page(path="/objects", handler=objects),
    Page(path="/object", handler=one_object),
    Page(path="/secrets", handler=secrets),
)
