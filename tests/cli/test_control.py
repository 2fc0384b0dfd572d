"""The process of the control plane, as a command starts it."""

import socket

import pytest

from homeport import settings as all_settings
from homeport.cli import control
from homeport.contract.errors import StorageError
from homeport.settings import Settings


@pytest.fixture
def settings(tmp_path):
    """Those of an empty home."""
    return all_settings.load({"HOMEPORT_HOME": str(tmp_path / "new/home")})


def test_the_control_plane_waits_for_its_orders_and_ends_silently_if_none_come(settings):
    process = control.start(settings)
    told, _ = process.communicate(timeout=180)  # the command ends, and needed no server

    assert (0, "") == (process.returncode, told)
    assert "" == (settings.home / "server.log").read_text()
    assert 0o700 == settings.home.stat().st_mode & 0o777


def test_a_server_listens_as_long_as_its_socket_takes_connections(settings):
    settings.control_socket.parent.mkdir(parents=True)
    assert not control.is_listening(settings)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(settings.control_socket))
        server.listen()
        assert control.is_listening(settings)
    assert not control.is_listening(settings)


def test_a_home_that_cannot_be_made_is_an_error_with_its_path(tmp_path):
    (tmp_path / "file").write_text("")
    settings = Settings(
        home=tmp_path / "file" / "home"
    )  # such a file has appeared since they were loaded

    with pytest.raises(StorageError, match=f"cannot write to {settings.home}"):
        control.start(settings)
