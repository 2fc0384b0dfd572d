"""Class parameters in a URL: reads a visitor's query string, and writes values in one canonical spelling.

    read(declared, "n=07&on=Yes")  ->  {"n": 7, "on": True}
    spell(declared, values)        ->  "n=7&on=true"

Two spellings of one value get the same pool of containers; two values get two pools. The valid texts:
    str    any text without NUL, percent-encoded UTF-8; blanks are part of it
    int    an optional sign and ASCII digits, within 64 bits: no blanks, no `1_000`, no other digits
    bool   1 true yes on, 0 false no off, in any case
    bytes  any bytes, percent-encoded
"""

import re
import urllib.parse

from homeport.contract.errors import BadRequest
from homeport.contract.manifest import Parameter, Value

TYPES = ("str", "int", "bool", "bytes")
MAX_BYTES = 4096  # of all values together, percent-encoded; park.lua refuses more
_INT = re.compile(rb"[+-]?[0-9]{1,20}")
_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


def read(declared: tuple[Parameter, ...], query: str) -> dict[str, Value]:
    """Return the values in a query string, with defaults; ignore other arguments of the query.

    `BadRequest` names the accepted parameters if one is missing or has the wrong type.

    >>> read((Parameter(name="n", type="int", required=True),), "n=3&page=2")
    {'n': 3}
    """
    texts = _by_name(query)
    values: dict[str, Value] = {}
    for parameter in declared:
        if parameter.name in texts:
            try:
                values[parameter.name] = _value(parameter.type, texts[parameter.name])
            except ValueError:
                shown = texts[parameter.name].decode("utf-8", "backslashreplace")
                raise BadRequest(
                    f"class parameter `{parameter.name}` must be {parameter.type}, "
                    f"not {shown[:100]!r}; {_accepted(declared)}"
                ) from None
        elif parameter.required:
            raise BadRequest(f"missing class parameter `{parameter.name}`; {_accepted(declared)}")
        elif parameter.default is not None:
            values[parameter.name] = parameter.default
    return values


def spell(declared: tuple[Parameter, ...], values: dict[str, Value]) -> str:
    """Return the query string of these values, without those that equal their defaults.

    So an explicit default and an omitted value have the same spelling.
    """
    defaults = {p.name: p.default for p in declared if not p.required}
    return "&".join(
        f"{name}={urllib.parse.quote(_bytes(value), safe='')}"  # as park.lua writes it
        for name, value in sorted(values.items())
        if defaults.get(name) != value
    )


def _by_name(query: str) -> dict[str, bytes]:
    """Return name -> value, the last value of each name; leave out parts without `=`."""
    values = {}
    for pair in query.split("&"):
        name, equals, value = pair.partition("=")
        if equals:
            values[urllib.parse.unquote_plus(name)] = urllib.parse.unquote_to_bytes(
                value.replace("+", " ")
            )
    return values


def _value(kind: str, raw: bytes) -> Value:
    if kind == "bytes":
        return raw
    if kind == "int":
        number = int(raw) if _INT.fullmatch(raw) else 2**63
        if not -(2**63) <= number < 2**63:
            raise ValueError(raw)
        return number
    text = raw.decode("utf-8")  # strict: a replaced byte would make two values one
    if kind == "bool":
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        raise ValueError(text)
    if "\0" in text:
        raise ValueError(text)
    return text


def _bytes(value: Value) -> bytes:
    if isinstance(value, bytes):
        return value
    return (str(value).lower() if isinstance(value, bool) else str(value)).encode()


def _accepted(declared: tuple[Parameter, ...]) -> str:
    names = ", ".join(
        f"`{p.name}` ({p.type}{'' if p.required else ', optional'})" for p in declared
    )
    return f"the accepted parameters are {names}"
