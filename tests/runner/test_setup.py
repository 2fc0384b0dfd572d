"""What a container's process changes before the user's code runs."""

import importlib
import sys
from pathlib import Path

import pytest

from homeport.runner import setup


def test_a_directory_that_a_volume_brings_is_imported_from(tmp_path, monkeypatch):
    place = tmp_path / "site"
    monkeypatch.syspath_prepend(place)
    try:
        importlib.import_module("brought_by_a_volume")
    except ModuleNotFoundError:
        place.mkdir()
    (place / "brought_by_a_volume.py").touch()
    setup.look_again()

    assert importlib.import_module("brought_by_a_volume").__file__.startswith(str(place))
    del sys.modules["brought_by_a_volume"]


def test_a_containers_standard_input_is_empty_and_is_no_pipe_of_the_nodes(start):
    runner = start(
        """
        import os, sys
        import modal
        app = modal.App("a")

        @app.function()
        @modal.fastapi_endpoint()
        def hello():
            return [sys.stdin.read(), os.readlink("/proc/self/fd/0")]
        """
    ).ready()

    assert ["", "/dev/null"] == runner.client.get("/").json()


@pytest.mark.parametrize(
    ("workdir", "makes", "where"),
    [
        ("there", True, "there"),
        ("there", False, "there"),
        ("not/there", True, "not/there"),
        ("not/there", False, "home"),
        ("file", True, "home"),
        ("file/below", True, "home"),
    ],
)
def test_the_working_directory_is_the_one_asked_for_if_there_can_be_one(
    tmp_path, monkeypatch, workdir, makes, where
):
    monkeypatch.chdir(tmp_path)
    for name in ("there", "home"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    setup.go_to(str(tmp_path / workdir), str(tmp_path / "home"), makes=makes)

    assert tmp_path / where == Path.cwd()
    assert makes or not (tmp_path / "not").exists()
