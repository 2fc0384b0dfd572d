"""Images with root file systems: pulled from a real registry, each step in a real cell."""

import asyncio
import os
import sys
from pathlib import Path

import psutil
import pytest

from homeport.contract.errors import ImageError
from homeport.contract.image import Image
from homeport.node.images import store
from homeport.node.images.environments import Environments
from homeport.node.images.owned import within
from tests import registries
from tests.waiting import until

from .conftest import WHERE, House, commands, step

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SECONDS = f"60.{os.getpid()}"  # a `sleep` of this worker's tests alone


async def test_a_registrys_image_has_its_files_its_variables_and_its_python(
    house, registry, system
):
    tag = registry.push(
        "told:1",
        [
            system,
            registries.layer({"srv/hello": "hello\n", "etc/gone": "1"}),
            registries.layer({"etc/.wh.gone": ""}),
        ],
        Env=["PATH=/usr/bin:/bin", "COLOUR=green"],
        WorkingDir="/srv",
    )
    built = await house.make(
        step("from_registry", tag=tag), commands("cat hello", "test ! -e /etc/gone", "echo $COLOUR")
    )

    assert "hello\n" == house.text(built, "/srv/hello")
    assert ("/usr/bin/python3", "/srv", "green") == (
        built.python,
        built.workdir,
        built.environ["COLOUR"],
    )
    assert ["$ cat hello", "hello", "$ test ! -e /etc/gone", "$ echo $COLOUR", "green"] == [
        line.removeprefix("run_commands: ") for line in house.said if line.startswith("run_c")
    ]


async def test_an_image_that_has_a_layer_twice_has_what_its_last_one_says(house, registry, system):
    """A step that changes nothing makes the same empty layer each time; overlayfs takes no directory twice."""
    empty, first = registries.layer({}), registries.layer({"srv/a": "first\n", "srv/.wh.b": ""})
    second = registries.layer({"srv/a": "second", "srv/b": "second"})
    tag = registry.push("twice:1", [system, empty, first, second, empty, first])
    built = await house.make(
        step("from_registry", tag=tag), commands("cat /srv/a", "test ! -e /srv/b")
    )

    assert "run_commands: first" in house.said
    assert len(built.lowers) == len({*built.lowers})


async def test_layers_are_unpacked_once_whichever_images_have_them(house, registry, system):
    shared = registries.layer({"srv/shared": "1"})
    tags = [
        registry.push(f"shared{n}:1", [system, shared, zstd.compress(_plain({f"srv/own{n}": "1"}))])
        for n in (1, 2)
    ]
    first, second = [await house.make(step("from_registry", tag=tag)) for tag in tags]

    assert first.lowers[:2] == second.lowers[:2]
    assert "1" == house.text(second, "/srv/own2")
    assert 4 == len(list(house.root.glob("layer-*")))


async def test_a_digest_is_a_reference_too(house, registry, system):
    tag = registry.push("digested:1", [system])
    built = await house.make(step("from_registry", tag=f"{tag}@{registry.pushed[-1]}"))

    assert 1 == len(built.lowers)


async def test_a_step_is_built_once_and_again_where_it_is_forced(house, base, tmp_path):
    random_step = commands("cat /proc/sys/kernel/random/uuid > /uuid")
    first = house.text(await house.make(base, random_step), "/uuid")
    count = len(house.said)
    again = house.text(await house.make(base, random_step), "/uuid")
    anew = commands("cat /proc/sys/kernel/random/uuid > /uuid", force_build=True)
    forced = [house.text(await house.make(base, anew), "/uuid") for _ in range(2)]
    house.source = house.source.with_name("rv-2")  # another deploy
    forced.append(house.text(await house.make(base, anew), "/uuid"))

    assert first == again != forced[0] == forced[1] != forced[2]
    assert count < len(house.said)
    assert [] == house.half()


async def test_two_builds_at_once_are_one(house, base):
    steps = base, commands("cat /proc/sys/kernel/random/uuid > /uuid")
    first, second = await asyncio.gather(house.make(*steps), house.make(*steps))

    assert first == second
    assert 1 == sum("> /uuid" in line for line in set(house.said))


async def test_steps_see_their_layers_and_nothing_of_this_machine(house, base, tmp_path):
    (tmp_path / "secret").write_text("of the host")
    house.secrets = {
        "TOKEN": "seen-by-steps",
        "REGISTRY_USERNAME": "u",
        "REGISTRY_PASSWORD": "never-seen",
    }
    built = await house.make(
        base,
        step("env", vars={"A": "1"}),
        step("workdir", path="/work"),
        commands(
            "ls / > /root/top",
            f"test ! -e {tmp_path}",
            'test "$TOKEN" = seen-by-steps && test -z "$REGISTRY_PASSWORD" && test "$A" = 1',
            "pwd > /root/cwd; rm /etc/group; mkdir /etc/made",
        ),
    )

    assert {"work", "root", "usr"} <= {*house.text(built, "/root/top").split()}
    assert "/work\n" == house.text(built, "/root/cwd")
    assert not (Path(built.lowers[-1]) / "etc/group").is_file()
    assert ("/work", "1") == (built.workdir, built.environ["A"])


async def test_files_that_a_step_removed_stay_removed_and_its_directories_are_new(house, base):
    await house.make(
        base,
        commands("mkdir -p /d/old && touch /d/old/f"),
        commands("rm -r /d && mkdir /d && touch /d/new"),
        commands("test ! -e /d/old && test -e /d/new && ls -A /d"),
    )

    assert "run_commands: new" in house.said


async def test_the_variables_of_an_image_do_not_reach_what_makes_its_cell(house, base, tmp_path):
    """A library that is loaded before the cell is built would see the host."""
    log = tmp_path / "loaded"
    await house.make(
        base, step("env", vars={"LD_DEBUG": "files", "LD_DEBUG_OUTPUT": str(log)}), commands("ls")
    )

    assert [] == [path for path in tmp_path.iterdir() if path.name.startswith("loaded")]


async def test_a_failing_commands_last_lines_are_told_and_none_of_its_secrets(house, base):
    house.secrets = {"KEY": "first-line\nsecond-line"}
    failure = await house.fails(base, commands("true", 'echo "$KEY"; echo went wrong >&2; exit 3'))

    assert 'echo "$KEY"; echo went wrong >&2; exit 3` ended with exit code 3' in failure.message
    assert WHERE == failure.where
    assert failure.traceback.endswith("went wrong")
    assert "-line" not in failure.traceback + "".join(house.said)
    assert [] == house.half()


@pytest.mark.parametrize("code", [124, 125, within.FAILED, within.FULL])
async def test_a_commands_own_exit_code_is_never_taken_for_a_fault_of_the_cell(house, base, code):
    failure = await house.fails(base, commands(f"exit {code}"))

    assert "run_commands" in failure.message
    told = 255 if code in (within.FAILED, within.FULL) else code
    assert f"ended with exit code {told}" in failure.message


async def test_the_command_that_failed_is_named_after_one_of_many_lines(house, base):
    lines = ("if true\nthen printf unended; fi ", "echo two ", "exit 3", "true")
    failure = await house.fails(base, commands(*lines))

    assert "`run_commands` failed: `exit 3` ended with exit code 3" == failure.message


async def test_a_build_that_nobody_waits_for_any_more_ends_and_leaves_nothing(house, base):
    await house.make(base)
    making = asyncio.create_task(house.make(base, commands(f"echo begun; sleep {SECONDS}")))
    await _said(house, "run_commands: begun")
    sleeping = await _sleeping(SECONDS)
    making.cancel()
    await asyncio.wait([making])

    assert making.cancelled()
    assert [] == house.half()
    assert [] == psutil.wait_procs(sleeping, timeout=30)[1]


SERVER = """
import asyncio, sys
sys.path[:0] = {path!r}
from tests.node.images.rooted.conftest import House, commands, step
from pathlib import Path
house = House.__new__(House)
house.__init__(Path({home!r}))
house.said = type("Said", (list,), {{"append": lambda self, line: print(line, flush=True)}})()
asyncio.run(house.make(step("from_registry", tag={tag!r}), commands("echo begun; sleep {seconds}")))
"""


async def test_kill_9_during_a_build_leaves_nothing_that_is_taken_for_whole(able, base, tmp_path):
    home = tmp_path / "home"
    text = SERVER.format(path=sys.path, home=str(home), tag=base.args["tag"], seconds=SECONDS)
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", text, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[4]
    )
    assert server.stdout is not None
    while b"begun" not in await asyncio.wait_for(server.stdout.readline(), 30):
        pass
    sleeping = await _sleeping(SECONDS)
    server.kill()
    await server.wait()

    assert [] == psutil.wait_procs(sleeping, timeout=30)[1]
    later = Environments(home / "environments", rooted=True)
    assert 1 == len(_half(home / "environments"))
    later.sweep()
    assert ["from_registry"] == [e.steps[-1].split()[0] for e in later.all()]
    for directory in (home / "environments").iterdir():
        assert (directory / "record.json").exists()
        store.remove(directory)


async def test_a_full_disk_is_said_and_leaves_no_half_layer(house, base, monkeypatch):
    from homeport.node.images.rooted import site

    await house.make(base)
    monkeypatch.setattr(site, "ALMOST_FULL_BYTES", 2**62)
    failure = await _raises(house, base, commands("exit 1"))

    assert "StorageError" == type(failure).__name__
    assert "the disk is full" in str(failure)
    assert [] == house.half()


async def test_prune_keeps_the_layers_that_an_image_stands_on(house, base, registry, system):
    kept = (base, commands("touch /kept"))
    built = await house.make(*kept)
    other = registry.push("other:1", [system, registries.layer({"srv/other": "1"})])
    await house.make(step("from_registry", tag=other))
    gone = await house.images.prune([Image(steps=kept)])

    assert [("from_registry " + other,)] == [removed.steps for removed in gone]
    assert all(Path(lower).is_dir() for lower in built.lowers)
    assert 2 == len([d for d in house.root.iterdir() if (d / "files").is_dir()])


async def test_a_later_server_finds_what_was_built(house, base):
    steps = (base, commands("touch /x"), step("workdir", path="/later"))
    built = await house.make(*steps)
    later = Environments(house.root, rooted=True)
    later.sweep()

    assert built == later.of(Image(steps=steps))
    with pytest.raises(ImageError, match="containers are not isolated"):
        Environments(house.root).of(Image(steps=steps))


async def test_packages_are_installed_into_the_images_own_python(house, base):
    built = await house.make(
        base,
        step("pip_install", packages=["six==1.17.0"]),
        commands("python -c 'import six; print(six.__version__, six.__file__)'"),
    )

    installed = next(line for line in house.said if line.startswith("run_commands: 1.17.0"))
    assert "/run/" not in installed
    assert any("six==1.17.0" in line for line in house.said)
    assert not any("/uv" in str(p) for p in Path(built.lowers[1]).glob("root/.cache/*"))


async def test_a_package_that_is_not_there_is_named_with_its_place(house, base):
    failure = await house.fails(base, step("uv_pip_install", packages=["six==0.0.77"]))

    assert failure.message.startswith("`uv_pip_install` failed: Because there is no version of six")
    assert WHERE == failure.where


async def test_a_function_runs_in_the_image_and_what_it_writes_is_in_the_layer(house, base):
    (house.source / "app.py").write_text(
        "import os\n"
        "def warm(name):\n"
        "    os.makedirs('/models', exist_ok=True)\n"
        "    open(f'/models/{name}', 'w').write(os.environ['A'])\n"
        "def fails():\n"
        "    raise KeyError('no such model')\n"
        "def hangs():\n"
        "    import time; time.sleep(60)\n"
    )
    env = step("env", vars={"A": "1"})
    built = await house.make(
        base, env, step("run_function", module="app", qualname="warm", args=["m"])
    )
    failure = await house.fails(base, env, step("run_function", module="app", qualname="fails"))

    late = await house.fails(
        base, step("run_function", module="app", qualname="hangs", timeout=0.5)
    )

    assert "1" == house.text(built, "/models/m")
    assert "`fails`: KeyError: 'no such model'" in failure.message
    assert "homeport/runner" not in failure.traceback
    assert "`hangs` took longer than 0.5 s" in late.message


async def test_copied_files_are_where_they_were_to_be(house, base):
    (house.given / "ab").write_text("one")
    (house.given / "cd").write_text("two")
    files = {"data/one": "ab", "/srv/two": "cd"}
    built = await house.make(
        base,
        step("add_local_dir", remote_path="/", copy=True, files=files),
        commands("cat /root/data/one"),
    )

    assert "two" == house.text(built, "/srv/two")
    assert "run_commands: one" in house.said


# which images cannot be


def _answering(version: str, libc: str) -> dict[str, str]:
    answer = (
        f'{{"path": "/usr/bin/python3", "version": "{version}", "libc": "{libc}", "held": false}}'
    )
    return {"usr/bin/python3": f"#!/bin/sh\necho '{answer}'\n"}


@pytest.mark.parametrize(
    ("version", "libc", "why"),
    [
        ("3.9.1", "glibc 2.31", "the image's Python is 3.9.1, and 3.10 is the oldest"),
        ("2.7.18", "glibc 2.31", "the image's Python is 2.7.18"),
        ("3.12.1", "", "the image's C library is not glibc"),
        ("3.12.1", "glibc 2.12", "the image's glibc is 2.12"),
    ],
)
async def test_an_image_that_no_runner_runs_in_is_an_error_at_build(
    house, registry, version, libc, why
):
    fake = registries.layer(_answering(version, libc), executables=["usr/bin/python3"])
    tag = registry.push(
        f"old-{version}-{libc.replace(' ', '-') or 'none'}:1", [registries.system(None), fake]
    )
    failure = await house.fails(step("from_registry", tag=tag))

    assert why in failure.message
    assert WHERE == failure.where
    assert failure.hint


async def test_an_image_without_python_or_without_a_shell_says_so(house, registry):
    bare = registry.push("bare:1", [registries.system(None)])
    empty = registry.push("empty:1", [registries.layer({"a": "1"})])

    assert "the image has no Python" == (await house.fails(step("from_registry", tag=bare))).message
    failure = await house.fails(step("from_registry", tag=empty))
    assert "no shell" in failure.message
    assert "add_python" in failure.hint


async def test_a_tag_that_is_not_there_is_an_error_with_its_reason(house, registry):
    missing = await house.fails(step("from_registry", tag=f"{registry.host}/nothing:1"))
    odd = await house.fails(step("from_registry", tag="--help"))

    assert f"`{registry.host}/nothing:1` cannot be fetched: manifest unknown" in missing.message
    assert "is not the name of an image" in odd.message


async def test_a_private_registry_wants_the_secret(house, able, tmp_path, system):
    with registries.running(tmp_path / "private", private=True) as private:
        tag = private.push("mine:1", [system])
        pull = step("from_registry", tag=tag)
        without = await house.fails(pull)
        house.secrets = {"REGISTRY_USERNAME": registries.USER}
        half = await house.fails(pull)
        house.secrets["REGISTRY_PASSWORD"] = "wrong-one"
        wrong = await house.fails(pull)
        house.secrets["REGISTRY_PASSWORD"] = registries.PASSWORD
        built = await house.make(pull)

    assert "unauthorized" in without.message.lower() or "authentication" in without.message
    assert "lacks `REGISTRY_PASSWORD`" in half.message
    assert "wrong-one" not in wrong.message + wrong.traceback
    assert 1 == len(built.lowers)
    assert [] == list(house.root.glob("**/auth.json"))


async def test_an_image_is_compiled_once_it_serves_and_its_next_zygote_has_that(house, base):
    image = Image(steps=(base, step("pip_install", packages=["six==1.17.0"])))
    built = await house.make(*image.steps)
    (house.source / "app.py").write_text("x = 1\n")
    house.images.compile(image, str(house.source))
    (task,) = house.images._compiler._tasks
    await task
    after = house.images.of(image)

    # The layers that a zygote uses already stay as they are.
    assert built.lowers == after.lowers[:-1]
    assert built.key == after.key
    assert [] == [path for lower in built.lowers[1:] for path in Path(lower).rglob("*.pyc")]
    assert any("six." in path.name for path in Path(after.lowers[-1]).rglob("*.pyc"))
    assert 1 == len([*(house.source / "__pycache__").iterdir()])
    assert after == Environments(house.root, rooted=True).of(image)
    assert [] == house.half()
    await house.images.prune([image])
    assert Path(after.lowers[-1]).is_dir()
    await house.images.prune([])
    assert [] == list(house.root.iterdir())


def _plain(files: dict[str, str]) -> bytes:
    import gzip

    return gzip.decompress(registries.layer(files))


async def _sleeping(argument: str) -> list[psutil.Process]:
    def sleeping() -> list[psutil.Process]:
        listed = psutil.process_iter(["cmdline"])
        return [p for p in listed if (p.info["cmdline"] or [])[-2:] == ["sleep", argument]]

    return await until(sleeping, f"`sleep {argument}`")


def _half(root: Path) -> list[Path]:
    return [d for d in root.iterdir() if not (d / "record.json").exists()]


async def _said(house: House, line: str) -> None:
    await until(lambda: line in house.said, line)


async def _raises(house: House, *steps) -> Exception:
    try:
        await house.make(*steps)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")
