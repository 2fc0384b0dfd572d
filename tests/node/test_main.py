"""The lock of a home: one server or agent at a time, and its process can be found."""

import os

import pytest

from homeport.contract.errors import AlreadyExists
from homeport.contract.starting import LOCK
from homeport.node.__main__ import locked
from homeport.settings import Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home")


def test_a_home_is_locked_for_one_process_and_free_again_after_it(settings):
    error = pytest.raises(AlreadyExists, match="another agent uses")
    with locked(settings), error, locked(settings):
        pass
    with locked(settings):
        pass


def test_the_lock_of_a_home_names_its_process_alone(settings):
    settings.home.mkdir(mode=0o700)
    (settings.home / LOCK).write_text("12345678901\n")

    with locked(settings):
        assert f"{os.getpid()}\n" == (settings.home / LOCK).read_text()


def test_a_home_that_another_process_uses_keeps_its_process(settings):
    with locked(settings):
        before = (settings.home / LOCK).read_text()
        with pytest.raises(AlreadyExists), locked(settings):
            pass

        assert before == (settings.home / LOCK).read_text()
