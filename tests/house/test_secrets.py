"""No object that holds a secret writes it when it is shown, in a log or in a traceback."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport.settings import Settings
from homeport.settings.keys import KEYS

SRC = Path(__file__).parents[2] / "src/homeport"
#: Names of fields that hold a secret, or one of several words with `_` between them.
SECRET = {"secret", "token", "password", "passphrase"}
#: File and class -> why its field is not a secret.
EXCEPTIONS = {
    "contract/api/audit.py:AuditEntry.token": "the token's id",
    "control/api/access.py:Caller.token": "the token's id",
    "control/certificates/acme/client.py:_Challenge.token": "the CA asks for it by plain HTTP",
}


def shown(tree: ast.Module) -> Iterator[str]:
    """Yield the class and name of each dataclass field that holds a secret and is shown."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef) or "dataclass" not in map(
            decorator, node.decorator_list
        ):
            continue
        for field in node.body:
            if (
                isinstance(field, ast.AnnAssign)
                and ast.unparse(field.annotation) in ("str", "bytes", "str | None", "bytes | None")
                and ast.unparse(field.target).rpartition("_")[2] in SECRET
                and (field.value is None or "repr=False" not in ast.unparse(field.value))
            ):
                yield f"{node.name}.{ast.unparse(field.target)}"


def decorator(node: ast.expr) -> str:
    return ast.unparse(node.func if isinstance(node, ast.Call) else node).rpartition(".")[2]


def test_no_secret_is_shown_by_its_object():
    fields = {
        f"{path.relative_to(SRC)}:{name}"
        for path in SRC.rglob("*.py")
        for name in shown(ast.parse(path.read_text()))
    }

    assert {*EXCEPTIONS} == fields


@pytest.mark.parametrize("name", sorted(name for name, key in KEYS.items() if key.secret))
def test_no_secret_setting_is_shown_with_the_others(name, tmp_path):
    assert "hidden-word" not in repr(Settings(home=tmp_path, **{name: "hidden-word"}))
