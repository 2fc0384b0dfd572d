"""`homeport dict …` and `homeport queue …`: the dicts and queues that functions share."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from homeport.cli import options, output, server, terminal
from homeport.contract import frames, pickled
from homeport.contract.api.shared import NewObject
from homeport.contract.errors import BadRequest, NotFound
from homeport.sdk import keys
from homeport.sdk.objects.shared import query
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.client import Client
    from homeport.client.shared import Shared

Kind = Literal["dict", "queue"]

dicts = typer.Typer(help="Dicts: create, list, get, items, clear, delete.", no_args_is_help=True)
queues = typer.Typer(help="Queues: create, list, len, peek, clear, delete.", no_args_is_help=True)

DictName = Annotated[str, typer.Argument(metavar="NAME", help="The dict's name.")]
QueueName = Annotated[str, typer.Argument(metavar="NAME", help="The queue's name.")]
Partition = Annotated[
    str, typer.Option("-p", "--partition", help="A partition of the queue.", show_default=False)
]
AllowMissing = Annotated[bool, typer.Option(help="Succeed also if there is none.")]
First = Annotated[int, typer.Argument(metavar="[N]", min=1, help="How many to show.")]


@dicts.command("create")
def create_dict(
    name: DictName, json: options.Json = False, environment: options.Environment = None
) -> None:
    """Create a dict."""
    asyncio.run(_create(options.load(environment=environment), "dict", name, json=json))


@dicts.command("list")
def list_dicts(json: options.Json = False, environment: options.Environment = None) -> None:
    """List the dicts, and how many entries they have."""
    asyncio.run(_list(options.load(environment=environment), "dict", json=json))


@dicts.command()
def get(
    name: DictName,
    key: Annotated[str, typer.Argument(metavar="KEY", help="A key that is text.")],
    environment: options.Environment = None,
) -> None:
    """Print the value of a key."""
    asyncio.run(_get(options.load(environment=environment), name, key))


@dicts.command()
def items(
    name: DictName,
    n: First = 20,
    every: Annotated[bool, typer.Option("-a", "--all", help="All of them.")] = False,
    json: options.Json = False,
    environment: options.Environment = None,
) -> None:
    """Print entries, the oldest first."""
    asyncio.run(
        _items(options.load(environment=environment), name, None if every else n, json=json)
    )


@dicts.command("clear")
def clear_dict(
    name: DictName, yes: options.Yes = False, environment: options.Environment = None
) -> None:
    """Remove all entries."""
    options.confirm(f"Remove everything from the dict `{name}`?", yes=yes)
    asyncio.run(_clear(options.load(environment=environment), "dict", name, "clear"))


@dicts.command("delete")
def delete_dict(
    name: DictName,
    yes: options.Yes = False,
    allow_missing: AllowMissing = False,
    environment: options.Environment = None,
) -> None:
    """Delete a dict and its entries."""
    options.confirm(f"Delete the dict `{name}` and its entries?", yes=yes)
    asyncio.run(
        _delete(options.load(environment=environment), "dict", name, allow_missing=allow_missing)
    )


@queues.command("create")
def create_queue(
    name: QueueName, json: options.Json = False, environment: options.Environment = None
) -> None:
    """Create a queue."""
    asyncio.run(_create(options.load(environment=environment), "queue", name, json=json))


@queues.command("list")
def list_queues(json: options.Json = False, environment: options.Environment = None) -> None:
    """List the queues, and how many values they have."""
    asyncio.run(_list(options.load(environment=environment), "queue", json=json))


@queues.command("len")
def length(
    name: QueueName,
    partition: Partition = "",
    total: Annotated[bool, typer.Option("-t", "--total", help="Of all partitions.")] = False,
    environment: options.Environment = None,
) -> None:
    """Print how many values there are."""
    _check(partition, "--total", every=total)
    asyncio.run(_length(options.load(environment=environment), name, partition, total=total))


@queues.command()
def peek(
    name: QueueName,
    n: First = 1,
    partition: Partition = "",
    environment: options.Environment = None,
) -> None:
    """Print the oldest values, and leave them in the queue."""
    asyncio.run(_peek(options.load(environment=environment), name, n, partition))


@queues.command("clear")
def clear_queue(
    name: QueueName,
    partition: Partition = "",
    every: Annotated[bool, typer.Option("-a", "--all", help="All partitions.")] = False,
    yes: options.Yes = False,
    environment: options.Environment = None,
) -> None:
    """Remove values."""
    _check(partition, "--all", every=every)
    options.confirm(f"Remove values from the queue `{name}`?", yes=yes)
    path = query("clear", partition=partition, every="1" if every else "")
    asyncio.run(_clear(options.load(environment=environment), "queue", name, path))


@queues.command("delete")
def delete_queue(
    name: QueueName,
    yes: options.Yes = False,
    allow_missing: AllowMissing = False,
    environment: options.Environment = None,
) -> None:
    """Delete a queue and its values."""
    options.confirm(f"Delete the queue `{name}` and its values?", yes=yes)
    asyncio.run(
        _delete(options.load(environment=environment), "queue", name, allow_missing=allow_missing)
    )


def _check(partition: str, flag: str, *, every: bool) -> None:
    if partition and every:
        raise BadRequest(f"`--partition` and `{flag}` do not go together", hint="leave out one")


async def _create(settings: Settings, kind: Kind, name: str, *, json: bool) -> None:
    async with server.background(settings) as client:
        created = await _of(client, kind).create(NewObject(name=name))
    if json:
        output.show_json(created)
        return
    output.say(f"✓ {kind.capitalize()} `{name}`. In your script:")
    output.out().print(f'{kind} = modal.{kind.capitalize()}.from_name("{name}")')


async def _list(settings: Settings, kind: Kind, *, json: bool) -> None:
    async with server.running(settings) as client:
        listed = await _of(client, kind).every()
    if json:
        output.show_json(listed)
        return
    rows = [
        (object_row.name, object_row.length, output.local_time(object_row.created_at))
        for object_row in listed
    ]
    what = "Entries" if kind == "dict" else "Values"
    output.show_table(("Name", what, "Created at"), rows, empty=f"no {kind}")


async def _get(settings: Settings, name: str, key: str) -> None:
    body = frames.pack([keys.pack(key)])
    async with server.running(settings) as client:
        value = (await client.dicts.parts("POST", name, "get", body))[0]
    if value is None:
        raise NotFound(f"the dict `{name}` has no key `{key}`")
    output.out().print(terminal.text(pickled.shown(value)))


async def _items(settings: Settings, name: str, most: int | None, *, json: bool) -> None:
    entries: list[tuple[str, str]] = []
    async with server.running(settings) as client:
        async for key, value in _entries(client, name):
            if most is not None and len(entries) >= most:
                break
            entries.append((pickled.shown(key), pickled.shown(value)))
    if json:
        output.show_json([{"key": key, "value": value} for key, value in entries])
        return
    output.show_table(("Key", "Value"), entries, empty="no entry")


async def _entries(client: "Client", name: str) -> AsyncIterator[tuple[bytes, bytes]]:
    after = ""
    while True:
        page = await client.dicts.parts("GET", name, query("items", after=after))
        after = (page[0] or b"").decode(errors="replace")
        parts = [part or b"" for part in page[1:]]
        for entry in zip(parts[::2], parts[1::2], strict=False):
            yield entry
        if not after:
            return


async def _length(settings: Settings, name: str, partition: str, *, total: bool) -> None:
    path = query("length", partition=partition, every="1" if total else "")
    async with server.running(settings) as client:
        count = await client.queues.count(name, path)
    output.out().print(count)


async def _peek(settings: Settings, name: str, most: int, partition: str) -> None:
    after, shown = "", 0
    async with server.running(settings) as client:
        while True:
            path = query("items", partition=partition, after=after)
            page = await client.queues.parts("GET", name, path)
            after = (page[0] or b"").decode(errors="replace")
            for value in page[1:]:
                if shown >= most:
                    return
                shown += 1
                output.out().print(terminal.text(pickled.shown(value or b"")))
            if len(page) == 1:
                return


async def _clear(settings: Settings, kind: Kind, name: str, path: str) -> None:
    async with server.running(settings) as client:
        await _of(client, kind).exchange("POST", name, path)
    output.say(f"✓ Cleared the {kind} `{name}`.")


async def _delete(settings: Settings, kind: Kind, name: str, *, allow_missing: bool) -> None:
    async with server.running(settings) as client:
        try:
            await _of(client, kind).delete(name)
        except NotFound:
            if not allow_missing:
                raise
            output.say(f"There is no {kind} `{name}`.")
            return
    output.say(f"✓ Deleted the {kind} `{name}`.")


def _of(client: "Client", kind: Kind) -> "Shared":
    return client.dicts if kind == "dict" else client.queues
