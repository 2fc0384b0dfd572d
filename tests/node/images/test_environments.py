"""Images built by the real uv, with small packages."""

import asyncio
import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from homeport.contract.errors import ImageError
from homeport.contract.image import Image, Step
from homeport.node.images import uv
from homeport.node.images.environments import Environments

SLIM = Step(name="debian_slim")
SIX = Step(name="pip_install", args={"packages": ["six==1.17.0"]}, where="app.py:3")


def image(*steps: Step) -> Image:
    return Image(steps=(SLIM, *steps))


def commands(*told: str, **args) -> Step:
    return Step(name="run_commands", args={"commands": list(told), **args}, where="app.py:7")


def ask(made, code: str) -> str:
    """Return what the image's interpreter prints."""
    words = [made.python, "-I", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout.strip()


class House:
    """A home's images, a source tree, and the lines that the builds have printed."""

    def __init__(self, path: Path) -> None:
        self.root = path / "environments"
        self.environments = Environments(self.root)
        self.source = path / "revisions" / "rv-1"
        self.source.mkdir(parents=True)
        self.said: list[str] = []
        self.secrets: dict[str, str] = {}

    async def make(self, made: Image):
        await self.environments.make(made, str(self.source), self.secrets, self.said.append)
        return self.environments.of(made)

    async def fails(self, made: Image) -> ImageError:
        with pytest.raises(ImageError) as caught:
            await self.make(made)
        return caught.value

    def half(self) -> list[Path]:
        """Return directories that are not finished images."""
        return [d for d in self.root.glob("*") if not (d / "record.json").exists()]


@pytest.fixture
def house(tmp_path) -> House:
    return House(tmp_path)


@pytest.fixture
def other_python() -> str:
    """Return the version of a second interpreter on this machine."""
    code = "import platform; print(platform.python_version())"
    for path in ("/usr/bin/python3.11", "/usr/bin/python3.12", "/usr/bin/python3.13"):
        if os.access(path, os.X_OK):
            done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=True)
            if done.stdout.strip() != platform.python_version():
                return done.stdout.strip()
    pytest.skip("there is one Python here")


async def test_an_image_without_steps_is_the_interpreter_of_homeport(house):
    made = await house.make(Image(steps=(Step(name="env", args={"vars": {}}),)))

    assert "" == made.runner_path
    assert "homeport" == ask(made, "import homeport; print(homeport.__name__)")


async def test_packages_are_installed_once_and_none_of_ours_is_seen(house):
    made = await house.make(image(SIX))
    said = len(house.said)

    assert "1.17.0" == ask(made, "import six; print(six.__version__)")
    assert "None" == ask(made, "from importlib.util import find_spec as f; print(f('typer'))")
    assert any("six==1.17.0" in line for line in house.said)
    assert made == await house.make(image(SIX))
    assert said == len(house.said)


async def test_a_later_server_finds_what_was_built(house):
    made = await house.make(image(SIX))
    later = Environments(house.root)
    later.sweep()

    assert made == later.of(image(SIX))
    assert [("debian_slim", "pip_install six==1.17.0")] == [later.all()[0].steps]
    with pytest.raises(ImageError, match="not there any more"):
        later.of(image(commands("true")))


async def test_two_builds_at_once_are_one(house, tmp_path):
    counted = image(commands(f"echo once >> {tmp_path}/count; cat {tmp_path}/gate"))
    os.mkfifo(tmp_path / "gate")
    first, second = (asyncio.create_task(house.make(counted)) for _ in range(2))
    await asyncio.to_thread((tmp_path / "gate").write_text, "opened")

    assert await first == await second
    assert "once\n" == (tmp_path / "count").read_text()
    assert 2 == house.said.count("run_commands: opened")


async def test_a_build_that_nobody_waits_for_any_more_ends_and_leaves_nothing(house, tmp_path):
    os.mkfifo(tmp_path / "gate")
    making = asyncio.create_task(house.make(image(commands(f"echo $$ > {tmp_path}/gate; cat"))))
    pid = int(await asyncio.to_thread((tmp_path / "gate").read_text))
    making.cancel()
    await asyncio.wait([making])

    assert making.cancelled()
    assert [] == house.half()
    assert not psutil.pid_exists(pid)


async def test_what_an_interrupted_build_left_is_swept(house):
    made = await house.make(image())
    (house.root / "abc" / "venv").mkdir(parents=True)
    house.environments.sweep()

    assert [] == house.half()
    assert made.directory.exists()


async def test_a_package_that_is_not_there_is_named_with_its_place(house):
    nowhere = Step(name="uv_pip_install", args={"packages": ["six==0.0.77"]}, where="app.py:5")
    failure = await house.fails(image(nowhere))

    assert failure.message.startswith("`uv_pip_install` failed: Because there is no version of six")
    assert "\n" not in failure.message
    assert "app.py:5" == failure.where
    assert "cause:" in failure.traceback
    assert [] == house.half()


async def test_a_failing_command_is_told_without_its_secrets(house):
    house.secrets = {"TOKEN": "hush-hush"}
    failure = await house.fails(image(commands('echo "have $TOKEN"; exit 3')))

    assert '`run_commands` failed: `echo "have $TOKEN"; exit 3` ended with exit code 3' == (
        failure.message
    )
    assert "have ***" == failure.traceback
    assert "run_commands: have ***" in house.said
    assert [] == house.half()


async def test_of_a_secret_with_several_lines_none_is_told(house):
    house.secrets = {"KEY": "-----BEGIN-----\nabcdefgh\nxy\n-----END-----\n"}
    long = "printf '%01100000d' 0; printf '%s' \"$KEY\" | tr -d '\\n'; echo; echo next"
    failure = await house.fails(image(commands(f'printf "%s" "$KEY"; {long}; exit 3')))

    assert ["***"] * 4 + ["next"] == failure.traceback.split("\n")
    assert not any(part in "".join(house.said) for part in ("BEGIN", "abcd", "xy", "END"))


async def test_commands_see_the_environment_and_change_no_layer_below(house):
    steps = (
        SIX,
        Step(name="env", args={"vars": {"WORD": "image"}}),
        commands(
            "python -c 'import six; print(six.__file__)' > found",
            'echo "__version__ = 0" > $(cat found)',
            'echo "$WORD $OTHER" > words',
            env={"OTHER": "step"},
        ),
    )
    below = await house.make(image(SIX))
    made = await house.make(image(*steps))

    assert "0" == ask(made, "import six; print(six.__version__)")
    assert "1.17.0" == ask(below, "import six; print(six.__version__)")
    assert "image step\n" == (house.source / "words").read_text()


async def test_commands_run_in_the_working_directory_of_the_app(house):
    workdir = Step(name="workdir", args={"path": "/root/made/here"})
    await house.make(image(workdir, commands("echo hello > word")))

    assert "hello\n" == (house.source / "made" / "here" / "word").read_text()


async def test_copied_files_and_a_functions_results_lie_in_the_source_tree(house):
    given = house.source.with_name("rv-1.build")
    given.mkdir()
    (given / "x").write_text("seven")
    (house.source / "app.py").write_text(
        "import modal, six\nfrom pathlib import Path\n"
        "def count(n, *, unit):\n"
        "    size = len(Path('data/in.txt').read_text()) * n\n"
        "    Path('data/out.txt').write_text(f'{size} {unit} {modal.is_local()}')\n"
    )
    copy = Step(name="add_local_file", args={"copy": True, "files": {"data/in.txt": "x"}})
    told = {"module": "app", "qualname": "count", "args": [2], "kwargs": {"unit": "letters"}}
    await house.make(image(SIX, copy, Step(name="run_function", args=told)))

    assert "10 letters False" == (house.source / "data" / "out.txt").read_text()
    assert "seven" == (house.source / "data" / "in.txt").read_text()


async def test_a_function_that_raises_or_hangs_fails_the_build(house):
    (house.source / "app.py").write_text(
        "import time\ndef broken(): 1 / 0\ndef slow(): time.sleep(60)\n"
    )
    raises = Step(name="run_function", args={"module": "app", "qualname": "broken"})
    hangs = Step(name="run_function", args={"module": "app", "qualname": "slow", "timeout": 0.5})
    failure = await house.fails(image(raises))

    assert failure.message.endswith("`broken`: ZeroDivisionError: division by zero")
    assert "homeport" not in failure.traceback
    assert "took longer than 0.5 s" in (await house.fails(image(hangs))).message


async def test_two_python_versions_live_side_by_side(house, other_python):
    older = Image(steps=(Step(name="debian_slim", args={"python_version": other_python}), SIX))
    code = "import platform, six; print(platform.python_version())"

    assert platform.python_version() == ask(await house.make(image(SIX)), code)
    assert other_python == ask(await house.make(older), code)


async def test_a_python_of_pyenv_is_found_though_its_shim_says_no(monkeypatch, tmp_path):
    for version in ("3.99.9", "3.99.10", "3.9.99"):
        (tmp_path / "versions" / version / "bin").mkdir(parents=True)
        (tmp_path / "versions" / version / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))

    found = await uv.python("3.99", "script.py:1")
    assert str(tmp_path / "versions" / "3.99.10" / "bin" / "python") == found.path


async def test_a_python_that_is_not_there_is_told_with_the_command_that_brings_it(house):
    args = {"python_version": "3.99"}
    failure = await house.fails(
        Image(steps=(Step(name="debian_slim", args=args, where="app.py:2"),))
    )

    assert "there is no Python 3.99 here" == failure.message
    assert ("app.py:2", "`uv python install 3.99`") == (failure.where, failure.hint)


async def test_debians_packages_are_fine_where_the_machine_has_them(house):
    if not os.access("/usr/bin/dpkg-query", os.X_OK):
        pytest.skip("no dpkg here")
    await house.make(image(Step(name="apt_install", args={"packages": ["libc6", "dpkg"]})))
    lacking = Step(
        name="apt_install", args={"packages": ["dpkg", "no-such-thing"]}, where="app.py:4"
    )
    failure = await house.fails(image(lacking))

    assert failure.message.startswith("`apt_install` needs `no-such-thing` on this machine,")
    assert failure.hint.startswith("`sudo apt-get install no-such-thing`; or `homeport doctor`")


async def test_prune_keeps_what_an_image_is_made_of(house):
    kept = image(SIX)
    await house.make(kept)
    await house.make(image(SIX, commands("true")))
    gone = await house.environments.prune([kept])

    assert ["run_commands true"] == [environment.steps[-1] for environment in gone]
    assert {"pip_install six==1.17.0", "debian_slim"} == {
        environment.steps[-1] for environment in house.environments.all()
    }
    assert "1.17.0" == ask(await house.make(kept), "import six; print(six.__version__)")
    assert 2 == len(await house.environments.prune([]))
    assert [] == list(house.root.iterdir())


async def test_images_that_share_an_environment_are_each_remembered_and_never_pruned(house):
    words = [Step(name="env", args={"vars": {"A": str(number)}}) for number in range(5)]
    images = [image(SIX, word) for word in words]
    *_, gone = await asyncio.gather(
        *(house.make(each) for each in images), house.environments.prune([])
    )
    later = Environments(house.root)

    assert [] == list(gone)
    assert 1 == len({later.of(each).key for each in images})
    assert [] == list(await later.prune(images[:1]))


async def test_a_forced_build_runs_again_at_the_next_deploy_and_replaces_the_last(house, tmp_path):
    forced = image(commands(f"echo once >> {tmp_path}/count", force_build=True))
    await house.make(forced)
    first = await house.make(forced)
    house.source = house.source.with_name("rv-2")
    house.source.mkdir()
    second = await house.make(forced)
    gone = await house.environments.prune([forced])

    assert "once\nonce\n" == (tmp_path / "count").read_text()
    assert second == house.environments.of(forced)
    assert [first.key] == [environment.key for environment in gone]


async def test_a_requirements_file_and_a_project_are_installed(house):
    listed = Step(
        name="pip_install_from_requirements",
        args={"requirements": "six # small\n", "constraints": "six<1.17"},
    )
    project = (
        '[project]\nname = "p"\nversion = "1"\n[project.optional-dependencies]\nx = ["idna"]\n'
    )
    from_project = Step(
        name="pip_install_from_pyproject",
        args={"pyproject": project, "optional_dependencies": ["x"]},
    )
    made = await house.make(image(listed, from_project))

    assert "1.16.0" == ask(made, "import idna, six; print(six.__version__)")


async def test_uv_sync_installs_what_the_lock_says(house, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    text = '[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.10"\ndependencies = ["six==1.16.0"]\n'
    (project / "pyproject.toml").write_text(text)
    subprocess.run([*uv.found(), "lock", "--quiet"], cwd=project, check=True)
    lock = (project / "uv.lock").read_text()
    step = Step(name="uv_sync", args={"pyproject": text, "lockfile": lock, "frozen": True})
    made = await house.make(image(Step(name="pip_install", args={"packages": ["idna"]}), step))

    assert "1.16.0" == ask(made, "import idna, six; print(six.__version__)")
    assert "3" == ask(made, "import sys; print(sys.version_info[0])")
