"""The house keeps its own rules: imports, public names, the docs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import homeport
from homeport.contract import errors

ROOT = Path(__file__).parents[2]
#: Names that a script for Modal may import from the top level (behaviour spec, section 0).
PUBLIC = [
    "App",
    "Cls",
    "Function",
    "FunctionCall",
    "Image",
    "Secret",
    "Volume",
    "Dict",
    "Queue",
    "Retries",
    "Cron",
    "Period",
    "Environment",
    "Workspace",
    "Client",
    "Error",
    "FilePatternMatcher",
    "Tunnel",
    "Proxy",
    "CloudBucketMount",
    "NetworkFileSystem",
    "Sandbox",
    "Server",
    "Cluster",
    "asgi_app",
    "wsgi_app",
    "web_server",
    "fastapi_endpoint",
    "web_endpoint",
    "method",
    "enter",
    "exit",
    "parameter",
    "concurrent",
    "batched",
    "clustered",
    "sessioned",
    "forward",
    "is_local",
    "interact",
    "current_input_id",
    "current_function_call_id",
    "enable_output",
    "experimental",
    "types",
    "__version__",
    "exception",
    "functions",
    "app",
    "runner",
    "output",
    "config",
]


def test_imports_go_one_way():
    words = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stdout


def test_modules_beside_the_users_code_need_the_standard_library_alone():
    modules = [
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        for room in ("cell", "contract", "sdk", "runner")
        for path in (ROOT / "src" / "homeport" / room).rglob("*.py")
        # These import the app servers, so the runner imports them only where the packages have one.
        if path.stem not in {"__main__", "asgi"}
        and path.stem
        not in {f"wsgi_{part}" for part in ("gateway", "request", "server", "threads")}
    ]
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\n"
    code += "\n".join(f"import {module}" for module in modules)
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", code], capture_output=True, text=True, check=False
    )

    assert (0, "") == (done.returncode, done.stderr)


def test_importing_homeport_loads_nothing_of_it():
    code = "import sys, homeport; print([m for m in sys.modules if m.startswith('homeport.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip()


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_resolves(name):
    assert getattr(homeport, name) is not None


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(AttributeError, match="Did you mean `Image`"):
        homeport.Imag


def test_every_kind_of_failure_can_travel():
    kinds = {
        value.__name__
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.Failure)
    }

    for kind in kinds:
        assert kind == type(errors.Failure.from_dict({"kind": kind})).__name__


def test_the_readmes_two_commands_are_those_that_ci_runs():
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"^\$ (.+)$", readme, re.MULTILINE)
    run = (ROOT / ".ci/run").read_text()

    assert "pip install uv && uv run --no-dev homeport serve examples/hello.py" == commands[0]
    assert commands[1] in run.splitlines()
    assert "pip install uv && uv run --group dev pytest" == commands[1]


def test_the_readmes_script_is_the_first_example():
    readme = (ROOT / "README.md").read_text()
    (script,) = re.findall(r"```python\n(.+?)```", readme, re.DOTALL)
    example = (ROOT / "examples/hello.py").read_text()

    assert [] == [line for line in script.splitlines()[2:] if line not in example.splitlines()]


def test_no_file_names_a_registrys_host():
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    hosts = re.compile("|".join(("pypi" + r"\.org", "files\\.python" + "hosted")))

    assert "uv.lock" not in files
    assert [] == [f for f in files if hosts.search((ROOT / f).read_text(errors="replace"))]
