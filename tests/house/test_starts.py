"""A command and the server begin with few imports, because a start is bound by them (docs/decisions.md, 21, 90, 92)."""

import subprocess
import sys

import pytest

HEAVY = {
    "alembic", "anyio", "click", "cryptography", "cryptography.x509", "fastapi", "httpx", "prometheus_client", "pydantic", "rich",
    "homeport.link", "sqlalchemy", "starlette", "uvicorn", "watchfiles", "websockets",
}  # fmt: skip
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
        pytest.param("import homeport.control.stages, homeport.control.stored, homeport.ingress.haproxy", {"click", "sqlalchemy", "starlette", "uvicorn", "anyio", "watchfiles"}, id="the server"),
        pytest.param("import homeport.cli.ahead, homeport.cli.control, homeport.settings", set(), id="a command, before its processes begin"),
        pytest.param(STATUS, {"click"}, id="homeport status"),
        pytest.param("import homeport.sdk.declare.__main__", set(), id="the process that loads a script"),
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
