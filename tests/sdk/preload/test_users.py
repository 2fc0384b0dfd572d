"""Which modules are the user's own, where Python and its packages may be below the script's directory."""

import json
import sys

import pytest

from homeport.sdk.preload.users import is_users


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("/root/shop.py", True),
        ("/root/shop/web.py", True),
        ("/root/.venv/lib/python3.12/site-packages/numpy/__init__.py", False),
        ("/root/.local/lib/python3/dist-packages/apt.py", False),
        ("/rooted/shop.py", False),
        ("/opt/shop.py", False),
        ("", False),
    ],
)
def test_a_users_module_is_in_the_scripts_directory_and_in_no_package(path, own):
    assert own is is_users(path, "/root") is is_users(path, "/root/")
    assert not is_users(path, "")


def test_python_below_the_scripts_directory_is_not_the_users(monkeypatch):
    monkeypatch.setattr(sys, "base_prefix", "/root/.local/share/uv/python/cpython")
    own = [
        is_users(f"/root/.local/share/uv/python/{path}", "/root")
        for path in ("cpython/lib/python3.12/argparse.py", "cpython-notes/mine.py")
    ]

    assert [False, True] == own
    assert not is_users(json.__file__, sys.base_prefix.rpartition("/")[0])


def test_a_script_in_the_directory_of_an_environment_is_the_users(monkeypatch):
    """`cd ~/project; python -m venv .` is not rare."""
    monkeypatch.setattr(sys, "prefix", "/root")

    assert is_users("/root/shop.py", "/root")
