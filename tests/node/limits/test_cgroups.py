"""Cgroups, with plain files in place of the kernel's; `tests/soak/cgroups.py` tries the kernel's."""

import functools
import logging
import subprocess
from pathlib import Path

import pytest

from homeport.node.limits import cgroups, keeper
from homeport.node.limits.cgroups import Cgroups, Unusable
from homeport.node.limits.keeper import Limits
from tests.orders import launch, order

MOUNT = "31 24 0:26 {} {} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.fixture
def tree(tmp_path) -> Path:
    """A directory with the files of a cgroup whose children have no controllers yet."""
    base = tmp_path / "base"
    (base / "homeport-x").mkdir(parents=True)
    for directory in (base, base / "homeport-x"):
        (directory / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
        (directory / "cgroup.subtree_control").write_text("")
    return base


def opened(tree: Path) -> Cgroups:
    """Open the cgroups without the check that a process may be moved there."""
    (tree / "homeport-x" / "cpu.weight").write_text("100")
    (tree / "homeport-x" / "memory.low").write_text("0")
    return Cgroups(tree / "homeport-x")


@pytest.mark.parametrize(
    ("chosen", "why"),
    [
        ("off", "they are switched off"),
        ("{}", "{} does not have the controller cpu and memory"),
        ("{}/nothing", "{}/nothing is not a cgroup v2"),
        ("{}/cgroup.controllers", "{}/cgroup.controllers is not a cgroup v2"),
    ],
)
def test_a_reason_is_given_if_cgroups_cannot_be_used(tmp_path, chosen, why):
    (tmp_path / "cgroup.controllers").write_text("cpuset io pids\n")

    with pytest.raises(Unusable) as refusal:
        Cgroups.open(chosen.format(tmp_path), "homeport-x")

    assert why.format(tmp_path) == str(refusal.value)
    assert ["cgroup.controllers"] == [path.name for path in tmp_path.iterdir()]


def test_a_cgroup_that_no_process_may_join_is_not_used(tree, monkeypatch):
    """The kernel checks that when a process is moved, and plain files do not."""
    refused = functools.partial(subprocess.CompletedProcess, returncode=2)
    monkeypatch.setattr(cgroups.subprocess, "run", lambda words, **_: refused(words))
    with pytest.raises(Unusable, match=r"processes may not move from .* to .*/homeport-x"):
        Cgroups.open(str(tree), "homeport-x")

    assert not (tree / "homeport-x/probe").exists()


@pytest.mark.parametrize(
    ("own", "top", "at"),
    [
        ("/", "/", "/sys/fs/cgroup"),
        ("/user.slice/run-1.scope", "/", "/sys/fs/cgroup/user.slice/run-1.scope"),
        # In a Docker container with the host's namespace, its own part of the tree is mounted.
        ("/docker/1234", "/docker/1234", "/sys/fs/cgroup"),
        ("/docker/1234/sub", "/docker/1234", "/sys/fs/cgroup/sub"),
        ("/docker/5678", "/docker/1234", None),
        ("/../elsewhere", "/", None),
    ],
)
def test_a_process_finds_its_cgroup_by_its_mounts(own, top, at):
    path = cgroups.located(f"1:name=systemd:/x\n0::{own}\n", MOUNT.format(top, "/sys/fs/cgroup"))

    assert (Path(at) if at else None) == path


def test_a_setting_that_the_kernel_has_not_got_is_let_be(tree):
    leaf = Path(opened(tree).make(order(memory_mib=(64, 200))))

    # Creating a file is forbidden in a cgroup, and would end the container's start.
    assert [] == list(leaf.iterdir())


def test_all_containers_together_weigh_what_each_of_them_does(tree):
    groups = opened(tree)
    groups.make(order(id="ta-1", cpu=(2.0, None), memory_mib=(64, None)))
    second = Path(groups.make(order(id="ta-2", cpu=(0.5, None), memory_mib=(32, 100))))

    def shares() -> tuple[str, ...]:
        return tuple((groups.root / name).read_text() for name in ("cpu.weight", "memory.low"))

    assert ("250", str(96 << 20)) == shares()
    assert groups.remove(second)
    assert ("200", str(64 << 20)) == shares()
    assert {"cpu.weight": "100", "memory.low": "0"} == cgroups.shares([])
    assert "10000" == cgroups.shares([(8000, 0), (8000, 0)])["cpu.weight"]


def test_a_process_that_stays_in_a_cgroup_is_killed_and_asked_for_again(tree):
    groups = opened(tree)
    leaf = Path(groups.make(order(memory_mib=(64, None))))
    (leaf / "cgroup.kill").write_text("")  # a plain directory is not empty by this either

    assert not groups.remove(leaf)
    assert "1" == (leaf / "cgroup.kill").read_text()
    (leaf / "cgroup.kill").unlink()
    assert groups.remove(leaf)
    assert groups.remove(leaf)


def test_a_kill_by_the_kernel_is_known_by_the_containers_own_cgroup(tmp_path):
    its = launch(memory_mib=(64, 200), cgroup=str(tmp_path))
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 2\noom_kill 0\n")
    before = Limits().broken(its)
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\n")

    assert "" == before
    # An adopted one's is known even where this server may not use cgroups.
    assert "it needed more memory than its limit of 200 MiB" == Limits().broken(its)
    assert "" == Limits().broken(launch(memory_mib=(64, 200), cgroup=str(tmp_path / "other")))


async def test_a_cgroup_that_was_asked_for_and_cannot_be_is_a_warning(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for chosen in (str(tmp_path), "off"):
        kept = Limits()
        kept.open(chosen, "homeport-x", [], list, lambda _container, _what: None)
        its = kept.confined(launch(cpu=(0.5, 0.5), memory_mib=(64, 200)), [])
        await kept.close()

        assert "" == its.cgroup
    assert ["WARNING", "INFO"] == [record.levelname for record in caplog.records]
    assert f"{tmp_path} is not a cgroup v2" in caplog.text


def test_a_cgroup_that_takes_no_limit_goes_again(tree, monkeypatch):
    def refuses(_file, _text):
        raise PermissionError(1, "no")

    groups = opened(tree)
    monkeypatch.setattr(cgroups, "_write", refuses)
    with pytest.raises(PermissionError):
        groups.make(order(memory_mib=(64, 200)))

    assert [] == groups.all()


async def test_a_container_without_its_cgroup_is_watched(tree, caplog):
    kept = Limits()
    kept._cgroups = Cgroups(tree / "nothing")  # somebody has removed it

    its = kept.confined(launch(memory_mib=(64, 200)), [])

    assert "" == its.cgroup
    assert keeper.watchdog.watched(its)
    assert "ta-1 has no cgroup and is watched" in caplog.text


async def test_cgroups_that_an_earlier_server_left_go_and_those_of_its_containers_stay(tree):
    groups = opened(tree)
    stays, goes = (Path(groups.make(order(id=name, cpu=(1.0, None)))) for name in ("ta-1", "ta-2"))
    kept = Limits()
    kept.release(launch(id="ta-2", cgroup=str(goes)))
    kept.open("off", "homeport-x", [launch(cgroup=str(stays))], list, lambda *_: None)
    await kept.close()

    assert (True, False) == (stays.exists(), goes.exists())


def test_the_processes_of_a_delegated_cgroup_move_into_its_leaf(tree):
    (tree / "cgroup.procs").write_text("11\n12\n")
    cgroups._make_empty(tree)
    leaf = tree / "server" / "cgroup.procs"
    is_made = leaf.parent.is_dir()
    leaf.write_text("")
    cgroups._make_empty(tree)

    assert is_made
    assert leaf.read_text().endswith("12")
