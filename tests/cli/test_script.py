"""A script that is loaded again and again, as `serve` does."""

import os
import threading

import pytest

from homeport.cli import script as scripts
from homeport.cli.script import Declarer
from homeport.contract.errors import Failure

SCRIPT = """
import modal
{imports}

app = modal.App("a")

@app.function()
@modal.fastapi_endpoint()
def hello(): pass
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A folder of installed packages; the name of each that is imported is written to a file."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    for name in ("first", "second"):
        text = f"open({str(tmp_path / 'imported')!r}, 'a').write('{name} ')"
        (folder / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return tmp_path / "imported"


async def test_a_module_that_a_script_has_imported_is_not_imported_again(tmp_path, installed):
    script = tmp_path / "script.py"
    declarer = Declarer(str(script), module=False, name="")
    told = []
    for imports in ("first", "first", "first, second", "second"):
        script.write_text(SCRIPT.format(imports=f"import {imports}"))
        modules = (await declarer.declare()).modules
        told.append([name for name in modules if name in {"first", "second"}])
        declarer.learn()
        await declarer._starting
    await declarer.close()

    assert [["first"], ["first"], ["first", "second"], ["second"]] == told
    # Each load of the first kind is followed by one ahead of the next.
    assert "first first second first second " == installed.read_text()


async def test_a_script_prints_the_same_if_a_warm_loader_loads_it(tmp_path, installed, capfd):
    script = tmp_path / "script.py"
    script.write_text(
        SCRIPT.format(imports="import first, os; print('loaded'); os.write(2, b'too')")
    )
    declarer = Declarer(str(script), module=False, name="")
    printed = []
    for _ in range(2):
        await declarer.declare()
        declarer.learn()
        await declarer._starting
        printed.append(capfd.readouterr().err)
    await declarer.close()

    assert "first first " == installed.read_text()  # the second time before the script
    assert [["loaded", "too"]] * 2 == [
        sorted(text.replace("too", "too\n").split()) for text in printed
    ]


async def test_a_variable_that_a_script_sets_above_an_import_counts_each_time(tmp_path, installed):
    (installed.parent / "site-packages" / "hub.py").write_text(
        f"open({str(installed)!r}, 'a').write('hub ')\n"
        "import os\nHOME = os.environ.get('HUB', 'default')"
    )
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nos.environ['HUB'] = 'models'\nimport hub, modal\napp = modal.App(hub.HOME)"
    )
    declarer = Declarer(str(script), module=False, name="")
    names, unlike = [], []
    for _ in range(4):
        declared = await declarer.declare()
        names.append(declared.name)
        unlike.append([name for name in declared.unlike if name == "hub"])
        declarer.learn()
        await declarer._starting
    await declarer.close()

    assert ["models"] * 4 == names
    # It is tried once, and then left to each load.
    assert [[], ["hub"], [], []] == unlike


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        ("script.py:2", "script.py:2  app = 1"),
        ("script.py:9", "script.py:9"),  # the file was edited meanwhile
        ("pt.py:2", "pt.py:2"),
        ("script.py:2  app = 1", "script.py:2  app = 1"),
        ("", ""),
    ],
)
def test_a_failure_that_the_server_found_shows_the_line_of_the_script(tmp_path, where, shown):
    path = tmp_path / "script.py"
    path.write_text("import modal\n  app = 1\n")
    failure = Failure("no", where=where)
    scripts.quote(failure, [str(tmp_path / "other.py"), str(path)])

    assert shown == failure.where


async def test_the_work_at_a_scripts_exit_is_done_and_no_command_waits_for_it(tmp_path):
    lets, done = tmp_path / "lets", tmp_path / "done"
    os.mkfifo(lets)
    script = tmp_path / "script.py"
    script.write_text(
        "import atexit, pathlib, modal\napp = modal.App('a')\n"
        f"atexit.register(lambda: pathlib.Path({str(done)!r}).write_text(open({str(lets)!r}).read()))"
    )
    declared = await scripts.declare(str(script))

    assert ("a", False) == (declared.name, done.exists())
    lets.write_text("at last")  # its exit waits for this
    (ending,) = [thread for thread in threading.enumerate() if thread.name == "script's end"]
    ending.join()
    assert "at last" == done.read_text()


@pytest.mark.parametrize(
    ("end", "how"),
    [
        ("os._exit(3)", "ended with exit code 3"),
        ("os.kill(os.getpid(), 9)", "was ended by SIGKILL"),
        ("os.kill(os.getpid(), 40)", "was ended by signal 40"),
    ],
)
async def test_a_script_that_ends_its_process_is_told_so(tmp_path, end, how):
    (tmp_path / "ends.py").write_text(f"import os\n{end}\n")

    with pytest.raises(Failure) as failed:
        await scripts.declare(str(tmp_path / "ends.py"))

    assert how in str(failed.value)
    assert "os._exit" in failed.value.hint
