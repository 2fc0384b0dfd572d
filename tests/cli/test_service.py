"""`homeport service` on a machine without the service: what it prints, and what it refuses."""

import re

import pytest
from typer.testing import CliRunner

from homeport.cli import service, units
from homeport.contract.errors import BadRequest, NotFound


@pytest.fixture
def run():
    def run(*words: str):
        return CliRunner().invoke(service.app, list(words), catch_exceptions=False)

    return run


def test_a_dry_run_prints_every_file_and_command_and_does_nothing(run):
    done = run("install", "--domain", "apps.example.com", "--email", "o@example.com", "--dry-run")

    for text in (
        "useradd --system",
        "ExecStart=",
        'domain = "apps.example.com"',
        "systemctl enable --now",
    ):
        assert text in done.output
    assert not (units.UNITS / "homeport.service").exists()


def test_a_wrong_setting_is_found_before_anything_is_done(run):
    with pytest.raises(BadRequest, match="tls"):
        run("install", "--domain", "a.example.com", "--tls", "perhaps", "--dry-run")
    with pytest.raises(BadRequest, match="domain"):
        run("install", "--domain", "a b", "--tls", "off", "--dry-run")


def test_a_machine_without_systemd_is_told_what_to_do(run, monkeypatch, tmp_path):
    monkeypatch.setattr(service, "SYSTEMD", tmp_path / "none")
    monkeypatch.setattr(service.os, "geteuid", lambda: 0)
    with pytest.raises(BadRequest, match="does not run systemd") as caught:
        run("install", "--domain", "a.example.com", "--tls", "off")

    assert "homeport up --foreground" in caught.value.hint


def test_without_the_service_there_is_nothing_to_upgrade_or_remove(run, monkeypatch, tmp_path):
    monkeypatch.setattr(units, "UNITS", tmp_path)
    for words in (["status"], ["upgrade"], ["uninstall", "--yes"]):
        with pytest.raises(NotFound, match="not installed as a service"):
            run(*words)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("1.2.3", r"homeport\[postgres\]==1\.2\.3"),
        (">=1.2", r"homeport\[postgres\]>=1\.2"),
        ("/dist/homeport.whl", r"homeport\[postgres\] @ file:///dist/homeport\.whl"),
        ("git+https://example.com/x", r"homeport\[postgres\] @ git\+https://example\.com/x"),
    ],
)
def test_a_service_is_installed_from_a_version_a_file_or_an_address(source, expected):
    assert re.fullmatch(expected, service._source(source)[0])
