"""Local names are the noun that they hold: `container`, `response`, `revisions`. A participle such as `told` is not a noun.

The names of parameters count too. Not checked: attributes, methods and fields of dataclasses, of which many are public.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import homeport

ROOT = Path(homeport.__file__).parent

#: A reader would have to look up what these hold.
VAGUE = frozenset(
    [
        "asked",
        "begun",
        "each",
        "found",
        "given",
        "heard",
        "kept",
        "known",
        "made",
        "mine",
        "one",
        "rest",
        "said",
        "told",
    ]
)
#: Where such a name is the noun: file -> names.
FITTING = {
    # True if the server is kept in the background after its command; a field of `contract/starting` and the API.
    "control/api/view.py": "kept",
    "control/lifeline.py": "kept",
    "control/main.py": "kept",
    # The arguments of a call between machines, by the name of their field on the wire (`link/messages`).
    "link/listener.py": "given",
    "link/remote.py": "given",
    "link/session.py": "given",
    "node/joined/served.py": "given",
}


def test_local_names_are_nouns():
    vague = {
        (str(path.relative_to(ROOT)), name)
        for path in ROOT.rglob("*.py")
        for name in local_names(ast.parse(path.read_text()))
        if name in VAGUE
    }
    fitting = {(path, name) for path, names in FITTING.items() for name in names.split()}

    assert set() == vague - fitting, "use the noun that the name holds, or add it to FITTING"
    assert set() == fitting - vague, "remove these from FITTING: the file has them no more"


def test_parameters_loops_patterns_and_comprehensions_count():
    tree = ast.parse(
        "def f(told, *, given=1):\n"
        "    found: int = 1\n"
        "    for each in [made for made in told if (known := made)]:\n"
        "        with each as said:\n"
        "            match said:\n"
        "                case [one, *rest]: pass\n"
        "    return lambda asked: asked\n"
    )

    assert VAGUE - {"begun", "heard", "kept", "mine"} == set(local_names(tree))


def test_fields_attributes_and_methods_do_not_count():
    tree = ast.parse("class A:\n    kept: int\n    told = 1\n    def found(self): self.known = 1\n")

    assert {"self"} == set(local_names(tree))


def local_names(node: ast.AST) -> Iterator[str]:
    """Yield the names that a file's functions, loops and blocks bind, except those of a class's own body."""
    for child in ast.iter_child_nodes(node):
        if isinstance(node, ast.ClassDef) and isinstance(child, ast.Assign | ast.AnnAssign):
            continue
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id
        elif isinstance(child, ast.arg):
            yield child.arg
        elif isinstance(child, ast.MatchAs | ast.MatchStar | ast.ExceptHandler) and child.name:
            yield child.name
        yield from local_names(child)
