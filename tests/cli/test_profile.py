"""`homeport login`, `logout` and `profile …` as a user types them, with a server that knows one token."""

import asyncio
import dataclasses
import io
import json
import sys

import pytest

from homeport.cli import profile
from homeport.contract import codec
from homeport.contract.api.answers import Fault, Refusal
from homeport.contract.api.api_tokens import Identity
from homeport.contract.errors import BadRequest, Failure, NotFound, ServerUnreachable
from homeport.settings import profiles

TOKEN = "ak-1.as-secret"
ADA = Identity(by="token", user="ada", token=None, permissions=(), environments=())


@pytest.fixture
async def server():
    """The URL of a server that knows `TOKEN`."""

    async def answer(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        known = f"Bearer {TOKEN}" in head
        fault = Refusal(error=Fault(kind="Unauthorized", message="the token is not known"))
        status, value = ("200 OK", ADA) if known else ("401 Unauthorized", fault)
        body = codec.dumps(value)
        writer.write(f"HTTP/1.1 {status}\r\nConnection: close\r\n\r\n{body}".encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"


async def log_in(monkeypatch, url: str, token: str = TOKEN, *, name: str = "", ca=None) -> None:
    """Run `homeport login --token-stdin`."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"HOMEPORT_TOKEN={token}\n"))
    await asyncio.to_thread(profile.login, url, name, token_stdin=True, ca=ca)


async def test_a_login_is_kept_for_its_owner_alone_and_used_from_then_on(
    home, monkeypatch, server, capsys
):
    await log_in(monkeypatch, server)
    said = capsys.readouterr().err
    saved = profiles.read(home)

    assert f"✓ Logged in to {server} as ada" in said
    assert "127.0.0.1" == saved.current
    expected = profiles.Profile(server=server, token=TOKEN, user="ada")
    assert expected == saved.by_name["127.0.0.1"]
    assert 0o600 == (home / profiles.FILE).stat().st_mode & 0o777
    assert TOKEN not in said


async def test_another_login_to_the_same_server_keeps_its_environment(home, monkeypatch, server):
    """Else the next deploy would go to another one."""
    await log_in(monkeypatch, server, name="prod")
    saved = profiles.read(home).with_environment({}, "staging")
    profiles.write(home, saved)
    await log_in(monkeypatch, server, name="prod")

    assert "staging" == profiles.read(home).by_name["prod"].environment
    elsewhere = dataclasses.replace(saved.by_name["prod"], server="https://other.example")
    profiles.write(home, dataclasses.replace(saved, by_name={"prod": elsewhere}))
    await log_in(monkeypatch, server, name="prod")
    assert "" == profiles.read(home).by_name["prod"].environment


async def test_a_login_that_fails_changes_nothing(home, monkeypatch, server, tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    wrong = [
        (Failure, {"url": server, "token": "ak-1.as-other"}),
        (ServerUnreachable, {"url": "http://127.0.0.1:1"}),
        (BadRequest, {"url": f"{server}/path"}),
        (BadRequest, {"url": "http://apps.example.com"}),
        (BadRequest, {"url": server, "name": "local"}),
        (BadRequest, {"url": server, "ca": tmp_path / "ca.pem"}),
        (BadRequest, {"url": server, "ca": tmp_path / "none.pem"}),
        (Failure, {"url": server, "token": ""}),
    ]
    for error, options in wrong:
        with pytest.raises(error):
            await log_in(monkeypatch, **options)

    assert profiles.Profiles() == profiles.read(home)
    assert [] == [path for path in [home / profiles.FILE, home / "profiles"] if path.exists()]


async def test_a_server_setting_that_takes_the_place_of_profiles_is_told(
    home, monkeypatch, server, capsys
):
    monkeypatch.setenv("HOMEPORT_SERVER", "https://other.example")
    await log_in(monkeypatch, server)

    assert "HOMEPORT_SERVER is set, and takes the place of every profile" in (
        " ".join(capsys.readouterr().err.split())
    )


@pytest.fixture
def two(home):
    """Two profiles; `one` is in use, and has a CA of its own."""
    (home / "profiles").mkdir()
    ca = home / "profiles/one.pem"
    ca.write_text("PEM")
    one = profiles.Profile(server="https://one", token="t", server_ca=str(ca), user="ada")
    by_name = {"one": one, "two": profiles.Profile(server="https://two", token="t")}
    profiles.write(home, profiles.Profiles(current="one", by_name=by_name))
    return ca


def listed(capsys) -> list[tuple[str, bool]]:
    profile.list_(json=True)
    return [(row["name"], row["current"]) for row in json.loads(capsys.readouterr().out)]


def test_profiles_are_listed_and_chosen(two, monkeypatch, capsys):
    profile.list_()
    table = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    profile.use("two")
    said = capsys.readouterr().err
    in_use = listed(capsys)
    profile.use("local")
    here = capsys.readouterr().err
    local = listed(capsys)
    monkeypatch.setenv("HOMEPORT_PROFILE", "one")

    expected = ["local this machine", "* one https://one ada", "two https://two"]
    assert [row.split() for row in expected] == table
    assert "✓ Commands go to https://two now" in said
    assert [("local", False), ("one", False), ("two", True)] == in_use
    assert "✓ Commands go to this machine now" in here
    assert [("local", True), ("one", False), ("two", False)] == local
    assert [("local", False), ("one", True), ("two", False)] == listed(capsys)
    with pytest.raises(NotFound, match="there is no profile `three`"):
        profile.use("three")


def test_a_profile_is_forgotten_with_its_ca(two, home, capsys):
    profile.logout("")

    assert "✓ `one` is forgotten; its token is valid until an admin deletes it" in (
        capsys.readouterr().err
    )
    assert not two.exists()
    assert [("local", True), ("two", False)] == listed(capsys)
    with pytest.raises(Failure, match="you are not logged in"):
        profile.logout("")
    profile.remove("two")
    assert {} == profiles.read(home).by_name


def test_another_profile_than_the_one_in_use_is_forgotten(two, monkeypatch, capsys):
    monkeypatch.setenv("HOMEPORT_PROFILE", "two")
    profile.logout("")

    assert two.exists()
    monkeypatch.delenv("HOMEPORT_PROFILE")
    assert [("local", False), ("one", True)] == listed(capsys)


def test_a_token_is_asked_for_on_a_terminal_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("x"))
    with pytest.raises(Failure, match="no terminal") as refused:
        profile.login("https://apps.example.com", "", token_stdin=False, ca=None)

    assert "use `--token-stdin`" == refused.value.hint


async def test_profiles_that_cannot_be_read_are_named_with_what_to_do(home, typed):
    (home / profiles.FILE).mkdir()
    async with typed() as user:
        said = await user.refused("profile", "list")

    assert f"error: {home / profiles.FILE} cannot be read: Is a directory" in said
    assert "hint: make room on the disk, or name another directory in HOMEPORT_HOME" in said
