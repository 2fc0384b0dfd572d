"""Compiles the user's files once for all containers of a revision.

A container in a cell may not write beside them, and what it would compile would go with it.
"""

import asyncio
import contextlib
import logging

from homeport.contract.image import HOME

# It works from inside the tree, by relative paths: a tree that is renamed and deleted meanwhile would else be
# made again, with what was just compiled in it.
CODE = """
import compileall, os, sys
os.nice(10)
os.chdir(sys.argv[1])
compileall.compile_dir(".", quiet=2, stripdir=".", prependdir=sys.argv[2], workers=1)
"""
PATIENCE_S = 300.0

log = logging.getLogger(__name__)


class Compiler:
    """Compiles in the background, a tree at a time; a container that comes before compiles for itself."""

    def __init__(self) -> None:
        self._begun: set[tuple[str, str]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    def begin(self, python: str, tree: str) -> None:
        """Compile all files of a tree by this interpreter, unless that has started before."""
        if (python, tree) not in self._begun:
            self._begun.add((python, tree))
            task = asyncio.create_task(self._compile(python, tree), name=f"compile {tree}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Compile no more."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _compile(self, python: str, tree: str) -> None:
        async with self._turn:
            quiet = asyncio.subprocess.DEVNULL
            process = await asyncio.create_subprocess_exec(
                *(python, "-I", "-c", CODE, tree, HOME),  # -I: it imports nothing of the user's
                stdin=quiet,
                stdout=quiet,
                stderr=quiet,
            )
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await process.wait()
            except TimeoutError:
                log.warning("the files in %s are not compiled: it takes too long", tree)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
