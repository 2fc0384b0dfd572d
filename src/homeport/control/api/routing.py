"""Makes HTTP routes of typed methods: a handler's signature is what its route takes and answers.

    @route("POST", "/v1/apps/{name}/rollback")
    async def rollback(self, name: str, body: api.Rollback) -> AsyncIterator[api.DeployEvent]:

`body` is read from JSON, `query` from the query string, `caller` is who asks, `scope` the environment that the request is for (its header `Homeport-Environment`), `record` its row of the audit
log, and every other parameter comes from the path. The answer is JSON of the value, 204 for None, and one JSON object a line for an AsyncIterator. The
reference and the tests read the same signatures by `described`.

A caller needs a permission for each route: `read` for GET, else `deploy`, unless the route says `needs=`.

Each request that is not a GET makes a row of the audit log, unless the route says `audit=` (record.py).
"""

import functools
import inspect
import json
import types
import typing
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from homeport.contract import query, shape
from homeport.contract.calls import ENVIRONMENT
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest
from homeport.contract.permissions import Permission
from homeport.contract.scope import Scope
from homeport.contract.sizes import MIB
from homeport.control.api import access, answers
from homeport.control.api.record import OK, Audited, Record, action_of, result_of
from homeport.state.environments import Environments

MAX_JSON_BYTES = 64 * MIB
_ENVIRONMENT = ENVIRONMENT.lower().encode()

Handler = TypeVar("Handler", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A route, as its handler declares it."""

    method: str
    path: str  # `/v1/apps/{name}`
    needs: Permission  # that the caller must have
    handler: str  # the method's name
    text: str  # its docstring
    body: Any  # a dataclass, `AsyncIterator[bytes]`, or None
    query: Any  # a dataclass, or None
    takes_caller: bool  # whether the handler has the parameter `caller`
    takes_scope: bool  # whether it acts on one environment
    takes_record: bool  # whether the handler says more to the audit log
    audited: Audited  # whose requests make rows of the audit log
    action: str  # its name there
    answer: Any  # a dataclass, a Response for other text, or None
    lines: tuple[Any, ...]  # of a stream: the types that a line may have


def route(
    method: str,
    path: str,
    *,
    needs: Permission | None = None,
    audit: Audited | None = None,
    action: str = "",
) -> Callable[[Handler], Handler]:
    """Make a method the handler of a route; `action` is its name in the audit log."""
    if needs is None:
        needs = Permission.READ if method == "GET" else Permission.DEPLOY
    if audit is None:
        audit = Audited.NONE if method == "GET" else Audited.ALL

    def marked(handler: Handler) -> Handler:
        handler.__dict__["route"] = (method, path, needs, audit, action or action_of(method, path))
        return handler

    return marked


@functools.cache
def described(noun: type) -> tuple[Described, ...]:
    """Return the routes that a class has, in the order in which they are written."""
    return tuple(_described(noun))


def _described(noun: type) -> Iterator[Described]:
    for name, handler in vars(noun).items():
        if (marked := getattr(handler, "route", None)) is None:
            continue
        hints = typing.get_type_hints(handler)
        answer = hints["return"]
        lines: tuple[Any, ...] = ()
        if typing.get_origin(answer) is AsyncIterator:
            (line,) = typing.get_args(answer)
            lines, answer = _alternatives(line), None
        yield Described(
            method=marked[0],
            path=marked[1],
            needs=marked[2],
            handler=name,
            text=inspect.cleandoc(handler.__doc__ or ""),
            body=hints.get("body"),
            query=hints.get("query"),
            takes_caller="caller" in hints,
            takes_scope="scope" in hints,
            takes_record="record" in hints,
            audited=marked[3],
            action=marked[4],
            answer=None if answer is type(None) else answer,
            lines=lines,
        )


async def answer(route: Described, handler: Callable[..., Any], request: Request) -> Response:
    """Answer a request by a route's handler; raise the failure that refuses it."""
    record = _record(route, request)
    try:
        value = await _called(route, handler, request, record)
    except BaseException as error:
        await record.end(result_of(error))
        raise
    if route.lines:
        if route.audited is not Audited.NONE:
            await record.begin()
            value = record.followed(value)
        return answers.lines_of(value)
    await record.end(OK)
    if isinstance(value, Response):
        return value
    return answers.NOTHING if value is None else await answers.long_json_of(value)


def _record(route: Described, request: Request) -> Record:
    caller = access.caller(request)
    is_audited = route.audited is Audited.ALL or (
        route.audited is Audited.USERS and caller.by != "container"
    )
    record = Record(request.app.audit if is_audited else None, caller, route.action)
    record.describe(route.path, request.path_params)
    return record


async def _called(
    route: Described, handler: Callable[..., Any], request: Request, record: Record
) -> Any:
    caller = access.allowed(request, route.needs)
    arguments: dict[str, Any] = dict(request.path_params)
    if route.takes_caller:
        arguments["caller"] = caller
    if route.takes_record:
        arguments["record"] = record
    if route.takes_scope:
        arguments["scope"] = record.scope = scope_of(request, caller)
    more = []
    if route.query is not None:
        arguments["query"] = query.parsed(route.query, request.scope["query_string"])
        more.append(arguments["query"])
    if typing.get_origin(route.body) is AsyncIterator:
        arguments["body"] = request.stream()
    elif route.body is not None:
        arguments["body"] = shape.read(route.body, await _json(request), "body")
        more.append(arguments["body"])
    record.describe(route.path, request.path_params, *more)
    return await handler(**arguments)


def scope_of(request: HTTPConnection, caller: access.Caller) -> Scope:
    """Return the environment that a request is for; `NotFound` if it does not exist, `Forbidden` if it is not the
    caller's.
    """
    scope = caller.scope(access.header(request.scope, _ENVIRONMENT))
    environments: Environments = request.app.environments
    environments.find(scope, sees=caller.sees)
    return scope


async def _json(request: Request) -> dict[str, Any]:
    """Return the body's JSON object; no body at all is `{}`."""
    text = bytearray()
    async for chunk in request.stream():
        text += chunk
        if len(text) > MAX_JSON_BYTES:
            raise BadRequest(f"the body has more than {MAX_JSON_BYTES} bytes")
    try:
        body = json.loads(text or b"{}")
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    if not isinstance(body, dict):
        raise BadRequest("the body is not a JSON object")
    return body


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)
