"""docs/reference/errors.md, from `homeport.contract.errors` and `homeport.sdk.exception`."""

import inspect
import re
from typing import Any

from docs.generate import source
from docs.generate.markdown import page as markdown
from docs.generate.markdown import sentence, table

from homeport.contract import errors
from homeport.sdk import exception

INTRO = """The kinds of failure that homeport tells of. A command prints `error: …` with the message, the place in
your script where there is one, and `hint: …` with what to do next, and ends with exit code 1. Over the API,
a failure is a JSON object with the status below. [Troubleshooting](../guides/troubleshooting.md) has the
messages one by one.

| exit code | means |
| --- | --- |
| 0 | it worked |
| 1 | a failure that you can mend: one of those below |
| 2 | the command was not written as it should be |
| 70 | a fault of homeport's own; please report it |

`homeport run` ends with the exit code of the script, which is 1 after an exception."""

EXCEPTIONS = """## What the SDK raises

Exceptions that a script can meet while it is loaded, or in a container. They are in
`homeport.exception`, which is `modal.exception` too. Those of them that nothing raises yet are there so that
scripts that catch them load."""


def page() -> str:
    """The page."""
    kinds = [_kind(cls) for cls in _classes(errors, errors.Failure)]
    rows = [
        (
            f"`{cls.__name__}`",
            f"`{cls.__mro__[1].__name__}`",
            sentence(source.summary(cls).split("\n")[0]),
        )
        for cls in _classes(exception, BaseException)
    ]
    return markdown(
        "Errors",
        INTRO,
        *kinds,
        EXCEPTIONS,
        table(("exception", "is a", "means"), rows),
    )


def _kind(cls: Any) -> str:
    meaning = re.findall(rf"{cls.__name__} {{2,}}(.+)", errors.__doc__ or "")
    text = meaning[0] if meaning else source.summary(cls)
    return f"## `{cls.__name__}`\n\n{sentence(text)} HTTP status {cls.status}."


def _classes(module: Any, base: type) -> list[Any]:
    found = [v for v in vars(module).values() if inspect.isclass(v) and issubclass(v, base)]
    return [cls for cls in found if cls.__module__ == module.__name__]
