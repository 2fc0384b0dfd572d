"""docs/reference/api.md, from the routes, handlers and dataclasses of the control plane."""

import inspect
import re
from typing import Any

from docs.generate import source
from docs.generate.markdown import page as markdown
from docs.generate.markdown import sentence, table

from homeport.contract.container import LogLine
from homeport.contract.image import Environment
from homeport.control.api import routes, view
from homeport.state.coldstarts import ColdStart

INTRO = """What the command line speaks with the server. It may change with each version of homeport: programs do better
with `homeport … --json`."""
PARTS = """`total_ms` is the sum of the parts in `timings_ms`. The parts follow one another:

parked
: from the first visitor who waits until the start is decided; 0 without a visitor

scheduled
: until its turn has come

forked
: until its process exists

imported
: the interpreter, the script and what it imports

entered
: the enter hooks; those before a snapshot too, if it was made for this start

listening
: building the apps, their lifespan, the socket

attached
: until the ingress knows the container

first_byte
: from its first request until the first byte of the answer; known when that request has ended"""


def page() -> str:
    """The page."""
    rules = inspect.cleandoc(routes.__doc__ or "").partition("The rules:\n\n")[2]
    return markdown(
        "The control plane's API",
        INTRO,
        rules,
        *_routes(),
        "## Objects",
        inspect.cleandoc(view.__doc__ or "").partition("The objects, by name:\n\n")[2],
        *(_object(cls) for cls in (LogLine, Environment, ColdStart)),
        PARTS,
    )


def _routes() -> list[str]:
    told = []
    found: Any = object.__new__(routes.Api).app().routes  # only the handlers' names are looked at
    for route in found:
        for method in sorted(route.methods - {"HEAD"}):
            path = re.sub(r":\w+}", "}", route.path)
            told.append(f"## `{method} {path}`\n\n{_text(route.endpoint, method)}")
    return told


def _text(handler: Any, method: str) -> str:
    """The docstring, or what it says of this method; body, query and answer begin a line each."""
    text = source.summary(handler)
    if own := re.search(rf"^{method}: (.+?)(?=^[A-Z]+: |\Z)", text, re.MULTILINE | re.DOTALL):
        text = own[1]
    text = " ".join(text.split())
    return (
        re.sub(r" (Body|Query|Answer): ", r"\n\n- **\1:** ", text)
        .replace("\n\n- ", "\n- ")
        .replace("\n- ", "\n\n- ", 1)
    )


def _object(cls: Any) -> str:
    rows = [
        (f"`{field.name}`", f"`{field.annotation}`", sentence(field.comment))
        for field in source.fields(cls)
    ]
    return f"### `{cls.__name__}`\n\n{table(('field', 'type', 'meaning'), rows)}"
