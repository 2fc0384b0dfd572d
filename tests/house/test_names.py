"""Local names are the noun that they hold: `container`, `response`, `revisions`. A participle such as `told` is not a noun.

The names of parameters count too, and so do public functions, methods, fields and attributes. Not checked: attributes
that begin with `_`, which only their own class reads. A test's name says what holds, and of which thing.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

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


#: Public names that are what they say: verbs of a role, words of the API or of the database.
PUBLIC = {
    # Return one thing, beside `every`, which returns all: in each file of `client` and `control/api`.
    "one": "client/ control/api/ state/calls.py",
    # `Node.rest`: release what is kept while no app serves; also what a zygote and a pool do then.
    "rest": "contract/roles.py control/fleet/ link/remote.py node/agent.py node/zygotes/ sdk/objects/exchange.py",
    # True if the server is kept in the background after its command.
    "kept": "contract/ control/lifeline.py control/deploys/capturing.py",
    # The arguments of a call between machines.
    "given": "link/ settings/",
    # A column of the database.
    "told": "state/alerts.py",
}

TESTS = Path(__file__).parents[1]
#: A sentence that begins so does not name its subject: "it ends with its command" is a server, a container or a test.
NAMELESS = re.compile(r"test_(it|its|they|those|who|whoever|what|whatever|which|this)_")


def test_a_test_names_the_thing_that_it_is_about():
    nameless = {
        f"{path.relative_to(TESTS)}: {function.name}"
        for path in TESTS.rglob("test_*.py")
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        and NAMELESS.match(function.name)
    }

    assert set() == nameless


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("test_it_ends", True),
        ("test_what_a_visitor_sends_is_data", True),
        ("test_items_are_counted", False),
        ("test_a_server_ends_with_its_command", False),
    ],
)
def test_a_sentence_that_begins_with_a_pronoun_is_found(name, expected):
    assert expected is bool(NAMELESS.match(name))


def test_public_names_are_nouns_or_verbs():
    vague = [
        f"{where}: {name}"
        for path in sorted(ROOT.rglob("*.py"))
        for name in public_names(ast.parse(path.read_text()))
        if name in VAGUE
        and not (where := path.relative_to(ROOT).as_posix()).startswith(
            tuple(PUBLIC.get(name, "-").split())
        )
    ]

    assert [] == vague


def test_functions_methods_fields_and_attributes_are_public_names():
    tree = ast.parse(
        "def made(): pass\n"
        "class A:\n"
        "    kept: int\n"
        "    told = 1\n"
        "    def found(self): self.known = self._one = 1\n"
        "    def _begun(self): pass\n"
    )

    assert {"made", "A", "kept", "told", "found", "known"} == set(public_names(tree))


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


def test_fields_attributes_and_methods_are_no_local_names():
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


def public_names(tree: ast.AST) -> Iterator[str]:
    """Yield the names of functions, methods, fields and attributes that others may use."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        if isinstance(node, ast.ClassDef):
            for child in node.body:
                targets = child.targets if isinstance(child, ast.Assign) else []
                targets = [child.target] if isinstance(child, ast.AnnAssign) else targets
                names += [target.id for target in targets if isinstance(target, ast.Name)]
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.append(node.attr)
        yield from (name for name in names if not name.startswith("_"))
