"""The house keeps its layout: short functions and files, a test for each module, plain words."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.covered import COVERED

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src/homeport"
TESTS = ROOT / "tests"
MOST_OF_A_FUNCTION = 60
MOST_OF_A_CLASS = 250
MOST_ROOMS_OF_CONTROL = 6
MOST_OF_A_FILE = {"src": 420, "tests": 500, "bench": 420, "docs": 420}

#: File, or file and function -> why it may be longer.
LONGER = {
    "src/homeport/state/tables.py": "the whole schema: tables, and nothing else that could go elsewhere",
    "tests/cell/probes.py": "a program that runs inside a cell, as one file",
    "tests/control/api/test_answers.py:test_every_route_answers_what_it_declares": "a table of requests",
    "tests/ingress/http_rules.py": "a table of cases, with the section of the RFC for each",
    "tests/ingress/test_haproxy.py": "every promise of the role by a real HAProxy",
    "tests/journeys/test_access.py:test_a_laptop_does_what_its_token_allows": "one journey, with one server",
    "tests/node/zygotes/test_nursery.py": "a table of imports that cannot be forked",
}
#: Words that a reader who learned English at school may not know, or that have a plainer one: continue, start again.
WORDS = re.compile(
    r"\b(makes? it so|whoever|obituar\w+|thief|thieves|born|births?|nests|as a rule|cannot be had|in one breath|"
    r"(go|goes|going|went) on|anew|beg[aiu]ns? again|in vain|as ever)\b",
    re.IGNORECASE,
)
#: Tokens with prose; Python 3.12 and newer have the text of an f-string as tokens of their own.
PROSE = {"COMMENT", "STRING", "FSTRING_MIDDLE"}


def sources(folder: str) -> list[Path]:
    return [p for p in sorted((ROOT / folder).rglob("*.py")) if p.name != "_version.py"]


def found() -> Iterator[tuple[str, int]]:
    """Yield the name and length of each file and function that is too long."""
    for folder, most in MOST_OF_A_FILE.items():
        for path in sources(folder):
            name = path.relative_to(ROOT).as_posix()
            text = path.read_text()
            if text.count("\n") > most:
                yield name, text.count("\n")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    lines = (node.end_lineno or 0) - node.lineno + 1
                    if lines > MOST_OF_A_FUNCTION:
                        yield f"{name}:{node.name}", lines


def test_functions_and_files_are_short():
    longer = dict(found())

    assert {} == {name: lines for name, lines in longer.items() if name not in LONGER}
    assert set() == set(LONGER) - set(longer), "an exception that is not needed any more"


def test_the_control_plane_has_few_rooms():
    rooms = {path.parent.name for path in (SRC / "control").glob("*/__init__.py")}

    assert len(rooms) <= MOST_ROOMS_OF_CONTROL, rooms


def test_no_comment_puts_code_into_parentheses():
    """A comment that is too long for the line of a field stands above it, with `#:`; one of a block stands inside."""
    wrapped = re.compile(r"= \(\n +[^\n()#]+  # [^\n]*\n +\)\n|\n *\)( as \w+)?:  # ")
    found = [path for folder in ("src", "tests", "bench") for path in sources(folder)]

    assert [] == [str(p.relative_to(ROOT)) for p in found if wrapped.search(p.read_text())]


def test_a_long_class_says_why_it_is_one():
    silent = []
    for path in sources("src"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MOST_OF_A_CLASS and "because" not in (ast.get_docstring(node) or ""):
                    silent.append(f"{path.relative_to(SRC)}: {node.name} has {lines} lines")

    assert [] == silent


def modules() -> list[str]:
    paths = (p.relative_to(SRC) for p in sources("src") if not p.name.startswith("__"))
    return [p.with_suffix("").as_posix() for p in paths if p.parts[0] != "onpath"]


def twin(module: str) -> str:
    folder, _, name = module.rpartition("/")
    return f"{folder}/test_{name}.py".lstrip("/")


@pytest.mark.parametrize("module", modules())
def test_each_module_has_a_test(module):
    own, other = (TESTS / twin(module)).is_file(), COVERED.get(module)

    assert own or other, f"add tests/{twin(module)}, or an entry in covered.py"
    assert own or (TESTS / str(other)).exists()


def test_the_table_has_no_module_that_is_gone():
    assert set() == set(COVERED) - set(modules())


def prose(path: Path) -> Iterator[str]:
    """Yield a file's comments and strings."""
    text = path.read_text()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if tokenize.tok_name[token.type] in PROSE:
            yield token.string


def pages() -> list[Path]:
    """Return all pages in Markdown, and the dashboard's templates."""
    markdown = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
    return [*markdown, *sorted((SRC / "dashboard/templates").glob("*.html"))]


def test_the_prose_has_plain_words():
    texts = [(path, text) for path in sources("src") for text in prose(path)]
    texts += [(path, path.read_text()) for path in pages()]
    words = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path, text in texts
        for match in WORDS.finditer(text)
    ]

    assert [] == words
