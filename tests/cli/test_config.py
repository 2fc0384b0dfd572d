"""`homeport config …`, on a home whose server does not run, and beside one that does."""

import asyncio
import json

import pytest
from typer.testing import CliRunner

from homeport.cli import config
from homeport.contract.errors import NotFound
from homeport.settings import profiles
from tests.control.api.served import on_a_socket
from tests.control.plane import Plane


def run(*words: str):
    return CliRunner().invoke(config.app, list(words), catch_exceptions=True)


@pytest.fixture
def token(monkeypatch, home):
    monkeypatch.setenv("HOMEPORT_TOKEN", "of-this-server")
    monkeypatch.setenv("HOMEPORT_DATABASE", "postgresql://ada:pass@db/x")


def test_the_settings_in_force_are_shown_without_secrets(token):
    told = json.loads(run("show").stdout)
    open_ = json.loads(run("show", "--no-redact").stdout)

    assert ("main", "***", "***") == (told["environment"], told["token"], told["database"])
    assert "of-this-server" == open_["token"]


def test_the_environment_is_kept_also_while_the_server_does_not_run(home):
    done = run("set-environment", "staging")

    assert (0, "staging") == (done.exit_code, profiles.read(home).environment)
    assert "staging" == json.loads(run("show").stdout)["environment"]
    assert 0 != run("set-environment", "no/name").exit_code


def test_a_variable_that_comes_before_the_chosen_environment_is_named(home, monkeypatch):
    monkeypatch.setenv("MODAL_ENVIRONMENT", "dev")
    done = run("set-environment", "staging")

    assert "warning: MODAL_ENVIRONMENT is set, and comes first" in done.stderr
    assert "HOMEPORT_ENVIRONMENT" not in done.stderr


async def test_a_server_that_runs_is_asked_whether_it_has_the_environment(home):
    async with Plane(home) as plane, on_a_socket(plane, home):
        unknown = await asyncio.to_thread(run, "set-environment", "staging")
        known = await asyncio.to_thread(run, "set-environment", "main")

    assert isinstance(unknown.exception, NotFound)
    assert "there is `main`" in unknown.exception.hint
    assert 0 == known.exit_code
