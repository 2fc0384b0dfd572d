"""The user's files are imported by their content, whatever their times say."""

import os
import subprocess
import sys

import pytest

from homeport.sdk.declare import sources

LOAD = """
import sys
from homeport.sdk.declare import script
module, _ = script.load("script.py", is_module=False)
print(module.value, module.other())
"""


@pytest.fixture
def load(tmp_path):
    """Load script.py, which imports part.py and a package, in a fresh interpreter; return what they say."""
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    (tmp_path / "package").mkdir()

    def load(text: str, *, code: str = LOAD) -> str:
        (tmp_path / "script.py").write_text(
            f"value = {text!r}\nimport part\nfrom package import part as other\n"
            "def other(): return part.value + sys.modules['package.part'].value\nimport sys\n"
        )
        for path in (tmp_path / "part.py", tmp_path / "package/part.py"):
            path.write_text(f"value = {text!r}\n")
        for path in tmp_path.rglob("*.py"):
            os.utime(path, (1_000_000_000, 1_000_000_000))  # all saves are in one second
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    return load


def test_a_save_of_the_same_length_in_the_same_second_is_loaded(load, tmp_path):
    first, second = load("one"), load("two")
    kept = next((tmp_path / "__pycache__").glob("part.*.pyc"))
    stamp = kept.stat().st_mtime_ns
    third = load("two")

    assert ["one oneone", "two twotwo", "two twotwo"] == [first, second, third]
    assert stamp == kept.stat().st_mtime_ns  # compiled once for each content
    assert b"\x03\0\0\0" == kept.read_bytes()[4:8]


def test_pythons_own_import_reads_the_bytecode_and_a_damaged_one_is_made_again(load, tmp_path):
    load("one")
    kept = next((tmp_path / "__pycache__").glob("part.*.pyc"))
    whole = kept.read_bytes()
    plain = load("one", code="import part; print(part.value, part.__spec__.loader)")
    kept.write_bytes(whole[:20])

    assert "SourceFileLoader" in plain
    assert "one oneone" == load("one")
    assert whole == kept.read_bytes()


@pytest.mark.parametrize(
    ("directory", "expected"),
    [
        ("/home/ada/project", True),
        ("/home/ada/project/.venv/lib/python3.11/site-packages", False),
        (os.path.dirname(os.__file__), False),
        (os.path.dirname(sources.__file__), False),
    ],
)
def test_installed_packages_are_imported_as_ever(directory, expected):
    assert expected == sources._is_users(directory)
