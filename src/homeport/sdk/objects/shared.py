"""The common base of `Dict` and `Queue`: look-up by name or id, creation and deletion."""

import json
import urllib.parse
from datetime import datetime
from typing import Any, Generic, TypeVar

from homeport.sdk import exception
from homeport.sdk.gone import Old
from homeport.sdk.objects import environments, exchange, named
from homeport.sdk.objects.exchange import Ask, Steps

T = TypeVar("T", bound="Shared")


class SharedInfo(named.Info):
    """Facts of a dict or a queue."""


class Manager(Generic[T]):
    """`Dict.objects` and `Queue.objects`: creates, lists and deletes the server's dicts or queues."""

    def __init__(self, cls: type[T]) -> None:
        self._cls = cls

    @exchange.operation
    def create(
        self,
        name: str,
        *,
        allow_existing: bool = False,
        environment_name: str | None = None,
        client: Any = None,  # noqa: ARG002
    ) -> Steps[None]:
        """Create an object with this name."""
        new = self._cls.from_name(name, environment_name=environment_name)  # it checks the name
        yield new.creation(allow_existing=allow_existing)

    @exchange.operation
    def list(
        self,
        *,
        max_objects: int | None = None,
        created_before: datetime | str | None = None,
        environment_name: str = "",
        client: Any = None,  # noqa: ARG002
    ) -> Steps[Any]:
        """Return the objects that have a name, the newest first."""
        where = environments.checked(environment_name)
        answer = yield Ask(self._cls.noun, "", method="GET", environment=where)
        objects = json.loads(answer)["objects"]
        chosen = named.newest(
            ((fields["name"], float(fields["created_at"])) for fields in objects),
            created_before=created_before,
            max_objects=max_objects,
        )
        return [self._cls.from_name(name, environment_name=where) for name in chosen]

    @exchange.operation
    def delete(
        self,
        name: str,
        *,
        allow_missing: bool = False,
        environment_name: str | None = None,
        client: Any = None,  # noqa: ARG002
    ) -> Steps[None]:
        """Delete an object and all of its entries."""
        try:
            where = environments.checked(environment_name)
            yield Ask(self._cls.noun, name, method="DELETE", repeats=False, environment=where)
        except exception.NotFoundError:
            if not allow_missing:
                raise


class Shared(metaclass=Old):
    """An object of the server that containers share by its name."""

    noun = ""

    def __init__(self) -> None:
        self._name: str | None = None
        self._id: str | None = None
        self._create_if_missing = False
        self.environment_name = ""  # its name; empty: this process's own

    @classmethod
    def from_name(  # noqa: PYI019 - Self is 3.11
        cls: type[T],
        name: str,
        *,
        environment_name: str | None = None,
        create_if_missing: bool = False,
        client: Any = None,  # noqa: ARG003
    ) -> T:
        """Return the object with this name; the first use of the object looks it up."""
        named.check(cls.__name__, name)
        named_object = cls()
        named_object._name, named_object._create_if_missing = name, create_if_missing
        named_object.environment_name = environments.checked(environment_name)
        return named_object

    @classmethod
    def from_id(cls: type[T], object_id: str, client: Any = None) -> T:  # noqa: ARG003, PYI019
        """Return the object with this id."""
        object_of_id = cls()
        object_of_id._id = object_id
        return object_of_id

    @classmethod
    def ephemeral(  # noqa: PYI019
        cls: type[T],
        client: Any = None,  # noqa: ARG003
        environment_name: str | None = None,
    ) -> "Ephemeral[T]":
        """Make an object that is deleted at the end of the `with` block."""

        return Ephemeral(cls, environments.checked(environment_name))

    @property
    def name(self) -> str | None:
        """The name that it was looked up by."""
        return self._name

    @property
    def object_id(self) -> str:
        """The id, once it is known: after the first use, or after `hydrate()`."""
        if self._id is None:
            kind = type(self).__name__
            raise exception.ExecutionError(f"the {kind} has no id before it is used or `hydrate()`")
        return self._id

    @exchange.operation
    def hydrate(self: T, client: Any = None) -> Steps[T]:  # noqa: ARG002, PYI019
        """Look it up now; make it if it does not exist and `create_if_missing` is true."""
        yield from self._object_id()
        return self

    @exchange.operation
    def info(self) -> Steps[SharedInfo]:
        """Return its name, and when it was created."""
        yield from self._object_id()
        facts = json.loads((yield self._request("", method="GET")))
        return SharedInfo.of(facts["name"], facts["created_at"])

    @classmethod
    def delete(cls, name: str, *, client: Any = None, environment_name: str | None = None) -> None:
        """Delete the object with this name."""
        Manager(cls).delete(name, client=client, environment_name=environment_name)

    def creation(self, *, allow_existing: bool) -> Ask:
        """Return the request that makes it."""
        body = {"name": self._name or "", "allow_existing": allow_existing}
        return Ask(
            self.noun,
            "",
            body=json.dumps(body).encode(),
            content_type="application/json",
            repeats=allow_existing,
            environment=self.environment_name,
        )

    def _object_id(self) -> Steps[str]:
        """Return the id; look it up at the first use."""
        if self._id is None:
            if self._name is None or self._create_if_missing:
                request = self.creation(allow_existing=self._name is not None)
            else:
                request = Ask(
                    self.noun, self._name, method="GET", environment=self.environment_name
                )
            self._id = str(json.loads((yield request))["id"])
        return self._id

    def _ask(self, path: str, body: bytes = b"", **options: Any) -> Steps[bytes]:
        yield from self._object_id()
        return (yield self._request(path, body, **options))

    def _request(self, path: str, body: bytes = b"", **options: Any) -> Ask:
        return Ask(
            self.noun, self._id or "", path, body, environment=self.environment_name, **options
        )


class Ephemeral(Generic[T]):
    """A block, for `with` and for `async with`, at whose end its object is deleted."""

    def __init__(self, cls: type[T], environment: str = "") -> None:
        self._made, self._delete = cls(), Manager(cls).delete
        self._made.environment_name = environment

    def __enter__(self) -> T:
        self._made.hydrate()
        return self._made

    def __exit__(self, *_error: object) -> None:
        self._delete(
            self._made.object_id,
            allow_missing=True,
            environment_name=self._made.environment_name,
        )

    async def __aenter__(self) -> T:
        await self._made.hydrate.aio()
        return self._made

    async def __aexit__(self, *_error: object) -> None:
        await self._delete.aio(
            self._made.object_id,
            allow_missing=True,
            environment_name=self._made.environment_name,
        )


def query(path: str, **values: Any) -> str:
    """Return the path with the values that are not empty."""
    encoded = urllib.parse.urlencode({name: value for name, value in values.items() if value})
    return f"{path}?{encoded}" if encoded else path
