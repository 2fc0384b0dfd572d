"""The names of modules that a function of homeport rebinds: what they hold, a process keeps from one test to the next."""

import ast
import functools
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
#: What a process makes or finds out once, and is the same for each test.
ONCE = frozenset(
    {
        ("homeport.runner.servers.captured", "_sender"),
        ("homeport.runner.tmp", "_possible"),
        ("homeport.sdk.preload.loaded", "_known"),
    }
)


@functools.cache
def names() -> tuple[tuple[str, str], ...]:
    """Return each such name, with its module."""
    pairs = set()
    for path in sorted(SOURCE.rglob("*.py")):
        if " global " not in (text := path.read_text(encoding="utf-8")):
            continue
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Global):
                pairs.update((module, name) for name in node.names)
    return tuple(sorted(pairs - ONCE))


def held() -> dict[str, object]:
    """Return what they hold in the modules that are imported; a list as a copy."""
    values = {}
    for module, name in names():
        if (imported := sys.modules.get(module)) is not None and hasattr(imported, name):
            value = getattr(imported, name)
            values[f"{module}.{name}"] = list(value) if isinstance(value, list) else value
    return values
