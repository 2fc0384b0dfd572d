"""Reads the OpenAPI document of an app. The app wrote it, so it may hold anything, and a few bytes of it can describe a
body without end: a schema may refer to itself, many times.
"""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from homeport.contract.dataclass import dataclass
from homeport.contract.names import HTTP_METHODS

MOST_OPERATIONS = 200
MOST_DEPTH = 6
MOST_TEXT = 1_000_000  # characters of the examples of one document, about
EACH = 16  # characters that each value counts, whatever it is
#: What wrong data raises: a list in the place of an object, a name that is missing, an empty list.
WRONG = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of an OpenAPI document."""

    method: str
    path: str
    summary: str
    parameters: tuple[str, ...]
    body: str  # an example


def operations(text: str) -> list[Operation]:
    """Return the operations of a document; none if it is no document. One that cannot be read is left out."""
    try:
        document = json.loads(text)
        paths = [(path, [*item.items()]) for path, item in document["paths"].items()]
    except WRONG:
        return []
    return [*_Reader(document).operations(paths)]


class _Reader:
    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._left = MOST_TEXT

    def operations(self, paths: list[tuple[str, list[tuple[str, Any]]]]) -> Iterator[Operation]:
        every = [(path, *pair) for path, pairs in paths for pair in pairs]
        chosen = [item for item in every if item[1].upper() in HTTP_METHODS]
        for path, method, operation in chosen[:MOST_OPERATIONS]:
            try:
                yield Operation(
                    method=method.upper(),
                    path=_with_query(path, operation),
                    summary=str(operation.get("summary") or operation.get("description") or ""),
                    parameters=tuple(
                        f"{parameter.get('name')}{'' if parameter.get('required') else '?'}"
                        for parameter in operation.get("parameters", [])
                    ),
                    body=self._body(operation),
                )
            except WRONG:
                continue

    def _body(self, operation: dict[str, Any]) -> str:
        """Return a body of the type that an operation takes, as JSON; empty if it takes none."""
        content = operation.get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema")
        return json.dumps(self._value(schema, 0), indent=2) if schema else ""

    def _value(self, schema: dict[str, Any], depth: int) -> Any:
        """Return a value that fits a schema, roughly."""
        self._left -= EACH
        if depth > MOST_DEPTH or self._left < 0:
            return None
        if ref := schema.get("$ref"):
            schema = self._document["components"]["schemas"][ref.rpartition("/")[2]]
        if "default" in schema or "example" in schema:
            example = schema.get("example", schema.get("default"))
            self._left -= len(json.dumps(example))
            return example if self._left >= 0 else None
        if choices := schema.get("anyOf") or schema.get("allOf"):
            return self._value(choices[0], depth + 1)
        if "enum" in schema:
            return schema["enum"][0]
        kind = schema.get("type")
        if kind == "object":
            properties = schema.get("properties", {})
            return {name: self._value(inner, depth + 1) for name, inner in properties.items()}
        if kind == "array":
            return [self._value(schema.get("items", {}), depth + 1)]
        return {"string": "text", "integer": 1, "number": 1.0, "boolean": True}.get(str(kind))


def _with_query(path: str, operation: dict[str, Any]) -> str:
    """Return a path with a query that has each parameter."""
    values = {
        str(parameter["name"]): parameter.get("schema", {}).get("default", "")
        for parameter in operation.get("parameters", [])
        if parameter.get("in") == "query"
    }
    return f"{path}?{urlencode(values)}" if values else path
