"""What a container's process changes before the user's code runs."""

import importlib
import sys

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
