"""Scripts that are loaded, in the tests' own process and in one as the command line starts it."""

import json
import os
import subprocess
import sys
import textwrap

import pytest


@pytest.fixture(autouse=True)
def _own_path(monkeypatch):
    """The loader puts a script's directory first in `sys.path`: for this test alone."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def declare(tmp_path):
    """Declare a script; returns what is written for the command line."""

    def declare(text: str | None, *args: str, files: dict[str, str] | None = None, ref="script.py"):
        if text is not None:
            (tmp_path / "script.py").write_text(textwrap.dedent(text))
        for name, content in (files or {}).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(content))
        read, write = os.pipe()
        done = subprocess.run(
            [sys.executable, "-P", "-m", "homeport.sdk.declare", ref, *args],
            cwd=tmp_path,
            pass_fds=(write,),
            env={**os.environ, "HOMEPORT_DECLARE_FD": str(write)},
            capture_output=True,
            text=True,
            check=False,
        )
        os.close(write)
        with os.fdopen(read) as pipe:
            answer = json.loads(pipe.read() or "null")
        assert answer, done.stderr
        assert "Traceback" not in done.stderr
        assert done.returncode == (1 if answer["error"] else 0)
        return {**(answer["declared"] or {}), "error": answer["error"], "watch": answer["watch"]}

    return declare
