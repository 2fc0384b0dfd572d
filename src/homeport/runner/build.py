"""`python -m homeport.runner.build CALL`: runs a `run_function` step in the image's environment.

CALL is a JSON file: `{"source", "cwd", "module", "qualname", "args", "kwargs"}`. The exit code is 0 when the
function returned; else its traceback has been printed, the exception's own line last.
"""

import asyncio
import inspect
import json
import os
import sys
from typing import Any

from homeport.sdk import context
from homeport.sdk.declare import loader
from homeport.sdk.tracebacks import users_traceback


def main() -> int:
    """Run the function; return 0 if it returned."""
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123 - pathlib costs 10 ms
        call = json.load(file)
    ours = sys.path.pop(0)
    sys.path.insert(0, call["source"])
    sys.path.append(ours)
    os.chdir(call["cwd"])
    context.enter_container({})
    try:
        target: Any = loader.load_module(call["module"], call["source"])
        for part in call["qualname"].split("."):
            target = getattr(target, part)
        outcome = getattr(target, "raw", target)(*call["args"] or [], **call["kwargs"] or {})
        if inspect.isawaitable(outcome):
            asyncio.run(_awaited(outcome))
    except Exception as error:
        print(users_traceback(error), file=sys.stderr)  # noqa: T201 - the build's output
        return 1
    return 0


async def _awaited(outcome: Any) -> Any:
    return await outcome


if __name__ == "__main__":
    sys.exit(main())
