"""Which containers may come from one zygote: never those of two apps, nor those that read other variables."""

import dataclasses
from pathlib import Path

import pytest

from homeport.contract.image import Image, Step
from homeport.contract.scope import Scope
from homeport.node.images.made import Made
from homeport.node.zygotes import likeness
from tests.orders import launch, order

MADE = Made(key="im-1", python="/usr/bin/python3", directory=Path("/none"))
ENVIRON = {"WORD": "sesame", "TMPDIR": "/run/ta-1", "CUDA_VISIBLE_DEVICES": "GPU-1"}
WORKDIR = Image(steps=(Step(name="workdir", args={"path": "/srv"}),))


def identity(*, made=MADE, environ=ENVIRON, avoid=(), **changes) -> str:
    return likeness.identity(order(**changes), made, environ, avoid)


def test_revisions_and_containers_of_a_function_come_from_one_zygote():
    other = {**ENVIRON, "TMPDIR": "/run/ta-2", "HOMEPORT_TASK_ID": "ta-2", "HOMEPORT_REVISION": "2"}

    assert identity() == identity(id="ta-2", revision="rv-2", environ=other)
    assert identity(avoid=("a", "b")) == identity(avoid=("b", "a"))
    moved = {**ENVIRON, "CUDA_VISIBLE_DEVICES": "GPU-2"}
    assert identity(gpu=("any",)) == identity(gpu=("any",), environ=moved)


@pytest.mark.parametrize(
    "changes",
    [
        {"app": "other"},
        {"function": "g"},
        {"made": Made(key="im-2", python=MADE.python, directory=MADE.directory)},
        {"environ": {**ENVIRON, "WORD": "another secret"}},
        {"environ": {**ENVIRON, "CUDA_VISIBLE_DEVICES": "GPU-2"}},  # the function asks for none
        {"avoid": ("pandas",)},
        {"block_network": True},
        {"image": WORKDIR},
    ],
)
def test_a_difference_that_imports_could_see_makes_another_zygote(changes):
    assert identity() != identity(**changes)


def test_apps_of_one_name_in_two_environments_never_share_a_zygote():
    ours = order()
    theirs = dataclasses.replace(ours, within=Scope("main", "staging"))

    assert likeness.identity(ours, MADE, ENVIRON, ()) != likeness.identity(
        theirs, MADE, ENVIRON, ()
    )


def test_a_base_zygote_has_the_variables_that_its_imports_read_and_no_secret_besides():
    environ = {"PATH": "/usr/bin", "WORD": "sesame", "OMP_NUM_THREADS": "2", **ENVIRON}

    assert {"PATH": "/usr/bin"} == likeness.plain({"PATH": "/usr/bin", **ENVIRON}, ())
    assert {"PATH", "OMP_NUM_THREADS", "WORD"} == likeness.plain(environ, ["WORD"]).keys()
    assert likeness.key(MADE, ENVIRON, ()) == likeness.key(MADE, {}, ())
    assert likeness.key(MADE, ENVIRON, ["WORD"]) != likeness.key(MADE, {}, ["WORD"])


def test_a_zygotes_launch_names_no_container_and_no_device():
    told = likeness.nobody(launch(devices=("GPU-1",), calls="/run/calls", cgroup="/sys/x"))

    assert ("", ()) == (told.order.id, told.order.devices)
    assert ("", "", "") == (told.calls, told.cgroup, told.tmp_dir)
