"""A command and the server begin with few imports, because a start is bound by them (docs/decisions.md, 21, 90, 92)."""

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
HEAVY = {
    "alembic", "anyio", "click", "cryptography", "cryptography.x509", "fastapi", "homeport.link", "homeport.sdk.gone",
    "html.entities", "httpx", "multiprocessing", "prometheus_client", "pydantic", "rich", "sqlalchemy", "starlette", "tomllib", "urllib.request",
    "uvicorn", "watchfiles", "websockets",
}  # fmt: skip
API = """
from homeport.control.api import uvicorn_server
uvicorn_server.Config(print, lifespan="off", ws=uvicorn_server.WEBSOCKETS, log_config=None).load()
"""
STATUS = """
import contextlib
from homeport.cli import main
with contextlib.suppress(main.Failure):  # no server runs
    main.command_line(["status"])(["status"], standalone_mode=False)
"""


@pytest.mark.parametrize(
    ("begins", "may"),
    [
        # The first zygote begins after these imports, and before those of the stages.
        pytest.param("import homeport.control.main", set(), id="the server, before its first zygote"),
        pytest.param("import homeport.control.stages, homeport.control.stored, homeport.ingress.haproxy", {"sqlalchemy", "starlette", "uvicorn", "anyio"}, id="the server"),
        pytest.param("import homeport.control.api.routes", {"anyio", "sqlalchemy", "starlette"}, id="the routes of the API"),
        pytest.param(API, {"uvicorn"}, id="the server of the API"),
        pytest.param("import homeport.cli.ahead, homeport.cli.control, homeport.settings", set(), id="a command, before its processes begin"),
        pytest.param(STATUS, {"click"}, id="homeport status"),
        pytest.param("import homeport.sdk.declare.__main__", {"homeport.sdk.gone"}, id="the process that loads a script"),
        pytest.param("import homeport.runner.__main__", set(), id="a container in a fresh interpreter"),
    ],
)  # fmt: skip
def test_a_start_imports_only_what_it_needs(begins, may, tmp_path):
    code = f"{begins}\nimport sys\nprint(*(name for name, module in sys.modules.items() if module))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"HOMEPORT_HOME": str(tmp_path)},
    )
    imported = set(done.stdout.split())

    assert set() == (imported & HEAVY) - may


def test_the_command_imports_nothing_before_it_takes_ctrl_c():
    code = "import sys; sys.path.insert(0, sys.argv[1]); before = {*sys.modules}; import homeport.__main__; print(*{*sys.modules} - before)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, str(SOURCE)], capture_output=True, text=True, check=True
    )

    assert {"homeport", "homeport.__main__", "gc"} == {*done.stdout.split(), "gc"}
