"""Images with a root file system of their own: from a registry, by a Dockerfile, and with Debian's packages."""

import os
import platform
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests import isolation, registries

TOLD = """
import os, platform, sys

def told():
    return {
        "python": platform.python_version(),
        "file": __file__,
        "cwd": os.getcwd(),
        "greeting": os.environ.get("GREETING"),
        "written": open("/srv/written").read(),
        "host": [path for path in ("/home", "/opt") if os.path.exists(path) and os.listdir(path)],
        "executable": sys.executable,
        "entered": os.environ.get("ENTERED"),
    }
"""
#: What an entrypoint does: it prepares, and starts the command that it is given.
ENTER = """#!/bin/sh
first=$1; shift
export ENTERED="with $first in $PWD"
cd /
exec "$@"
"""
APP = """
    import modal
    from told import told

    image = {image}
    app = modal.App("rooted", image=image)

    @app.function()
    @modal.wsgi_app()
    def web():
        import json
        def answer(environ, start):
            start("200 OK", [("content-type", "application/json")])
            return [json.dumps(told()).encode()]
        return answer
"""


@pytest.fixture
def isolated(terminal):
    isolation.needed()
    terminal.environ["HOMEPORT_ISOLATION"] = "on"
    return terminal


def _other_python() -> str | None:
    """An interpreter of another version on this machine, with all of its files in one directory."""
    found = sorted(Path.home().glob(".pyenv/versions/3.1[0-4].*/bin/python3.1[0-4]"))
    ours = platform.python_version_tuple()[1]
    return next((str(path) for path in found if path.name.rpartition(".")[2] != ours), None)


def test_images_of_a_registry_and_of_a_dockerfile_run_with_their_own_python(
    isolated, write, visitor, registry, tmp_path
):
    python = _other_python()
    if python is None:
        pytest.skip("there is one Python here")
    prefix = os.path.dirname(os.path.dirname(python))
    path = f"{prefix}/bin:/usr/bin:/bin"
    tag = registry.push("other:1", [registries.system(python)], Env=[f"PATH={path}"])
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "hello.txt").write_text("from the context\n")
    (tmp_path / "context" / "Dockerfile").write_text(
        f"FROM {tag}\nENV GREETING=hello\nWORKDIR /srv\nCOPY *.txt ./\n"
        "RUN cat hello.txt > written && echo by a step >> written\n"
        f"COPY --chmod=755 <<'EOF' /enter\n{ENTER}EOF\n"
        'ENTRYPOINT ["/enter", "first"]\nCMD ["python3"]\n'
    )
    context = tmp_path / "context"
    image = f"modal.Image.from_dockerfile({str(context / 'Dockerfile')!r}, context_dir={str(context)!r})"
    write(TOLD, "told.py")
    urls = isolated.deploy(write(APP.format(image=image)))
    told = visitor.get(urls["web"]).json()

    version = subprocess.check_output(
        [python, "-c", "import platform; print(platform.python_version())"]
    )
    assert version.decode().strip() == told["python"]
    assert "hello" == told["greeting"]
    assert "with first in /srv" == told["entered"]
    assert "/srv" == told["cwd"]
    starts = isolated.json("app", "cold-starts", "rooted")
    assert {"fresh"} == {start["origin"] for start in starts}
    assert "/enter first" in starts[0]["why_fresh"]
    assert "from the context\nby a step\n" == told["written"]
    assert [] == told["host"]
    steps = [each["steps"] for each in isolated.json("image", "list")]
    assert any("RUN cat hello.txt" in each[-1] for each in steps)


DEBIAN = """
    import modal

    image = (
        modal.Image.debian_slim(python_version="3.11")
        .apt_install("sox")
        .run_commands("sox -n -r 8000 -c 1 /srv/tone.wav synth 0.1 sine 440")
    )
    app = modal.App("sound", image=image)

    @app.function()
    @modal.wsgi_app()
    def web():
        import subprocess

        def answer(environ, start):
            subprocess.run(["sox", "/srv/tone.wav", "/tmp/tone.au"], check=True)
            start("200 OK", [])
            return [open("/tmp/tone.au", "rb").read()]

        return answer
"""


@pytest.mark.soak
def test_a_function_runs_a_program_that_apt_install_installed(isolated, write, visitor):
    if shutil.which("mmdebstrap") is None:
        pytest.skip("there is no mmdebstrap: apt-get install mmdebstrap")
    urls = isolated.deploy(write(DEBIAN), timeout=240)

    assert b".snd" == visitor.get(urls["web"]).content[:4]


BUILT = """
    import modal
    from pathlib import Path

    def learn():
        Path("/srv/learnt").write_text(Path("/models/weights").read_text() + "learnt ")

    volume = modal.Volume.from_name("models", create_if_missing=True)
    image = (
        IMAGE
        .run_commands("echo weights > /models/weights", volumes={"/models": volume})
        .uv_pip_install("six==1.17.0")
        .run_function(learn, volumes={"/models": volume})
        .add_local_file(__file__, "/opt/copied", copy=True)
        .entrypoint(["/usr/bin/env", "ENTERED=yes"])
    )
    app = modal.App("built", image=image)

    @app.function()
    @modal.wsgi_app()
    def web():
        import os

        import six

        def answer(environ, start):
            start("200 OK", [])
            seen = [six.__version__, os.environ["ENTERED"], str(os.path.exists("/opt/copied"))]
            return [(Path("/srv/learnt").read_text() + " ".join(seen)).encode()]

        return answer
"""


def test_an_ordinary_user_builds_an_image_in_steps(ordinary, visitor, small):
    isolation.needed()
    ordinary.environ["HOMEPORT_ISOLATION"] = "on"
    directory = ordinary.home.parent / "app"
    directory.mkdir()
    script = directory / "script.py"
    script.write_text(
        textwrap.dedent(BUILT).replace("IMAGE", f"{small}.run_commands('mkdir -p /srv')")
    )
    url = ordinary.deploy(script)["web"]

    assert "weights\nlearnt 1.17.0 yes True" == visitor.get(url).text
