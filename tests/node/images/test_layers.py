"""An image's key depends on what its content depends on, and on nothing else; steps that need a root file system are refused."""

import dataclasses

import pytest

from homeport.contract.errors import ImageError
from homeport.contract.image import Image, Step
from homeport.node.images import layers
from homeport.node.images.uv import in_one_line

SLIM = Step(name="debian_slim")
FLASK = Step(name="pip_install", args={"packages": ["flask"]}, where="a.py:1")
COMMAND = Step(name="run_commands", args={"commands": ["make"]})
ENV = Step(name="env", args={"vars": {"A": "1"}})
COPY = Step(name="add_local_file", args={"copy": True, "files": {"x": "12"}, "local_path": "/a/x"})
MOUNT = Step(name="add_local_file", args={"local_path": "/a/x", "remote_path": "/root/x"})


def keys(*steps: Step, version: str = "3.11.7", source: str = "rv-1") -> list[str]:
    return [layer.key for layer in layers.of(Image(steps=steps), version, source)]


def changed(step: Step, **args) -> Step:
    return dataclasses.replace(step, args={**step.args, **args})


def test_a_layer_is_shared_by_all_images_that_begin_alike():
    assert keys(SLIM, FLASK) == keys(SLIM, FLASK, COMMAND)[:2]
    assert len(keys(SLIM, FLASK)) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((SLIM, FLASK), (SLIM, dataclasses.replace(FLASK, where="b.py:9"))),
        ((SLIM, FLASK), (SLIM, FLASK, ENV, MOUNT)),
        ((SLIM, FLASK), (FLASK,)),
        ((SLIM, COPY), (SLIM, changed(COPY, local_path="/b/x"))),
    ],
)
def test_what_changes_nothing_in_an_environment_does_not_build_it_again(one, other):
    assert keys(*one) == keys(*other)


@pytest.mark.parametrize(
    "steps",
    [
        (SLIM, changed(FLASK, packages=["flask<3"])),
        (SLIM, ENV, FLASK),
        (SLIM, changed(FLASK, force_build=True)),
        (SLIM, changed(COPY, files={"x": "34"})),
        (SLIM, COPY),
    ],
)
def test_what_may_change_an_environment_builds_another(steps):
    others = [keys(SLIM, FLASK)[-1], keys(SLIM, COPY)[-1]]
    if steps == (SLIM, COPY):
        others.pop()

    assert keys(*steps)[-1] not in others


def test_another_python_is_another_environment():
    assert not {*keys(SLIM, FLASK)} & {*keys(SLIM, FLASK, version="3.12.1")}


def test_force_build_is_once_for_each_deploy():
    forced = changed(FLASK, force_build=True)

    assert keys(SLIM, forced) == keys(SLIM, forced)
    assert keys(SLIM, forced)[0] == keys(SLIM, forced, source="rv-2")[0]
    assert keys(SLIM, forced)[1] != keys(SLIM, forced, source="rv-2")[1]


@pytest.mark.parametrize(
    ("name", "why", "doctor"),
    [
        ("from_registry", "needs a root file system of its own, and containers are not", True),
        ("from_dockerfile", "needs a root file system of its own, and containers are not", True),
        ("micromamba", "needs a root file system of its own, and containers are not", True),
        ("from_name", "is not there yet", False),
        ("from_scratch", "has no Python", False),
    ],
)
def test_a_step_that_cannot_be_built_is_named_with_the_reason_and_what_to_do(name, why, doctor):
    with pytest.raises(ImageError, match=f"^`{name}` {why}") as caught:
        layers.check(Image(steps=(Step(name=name, where="a.py:3"),)))

    assert "a.py:3" == caught.value.where
    assert "uv_pip_install" in caught.value.hint
    assert ("`homeport doctor` says why" in caught.value.hint) is doctor


def test_an_empty_entrypoint_and_a_command_do_nothing():
    entrypoint = Step(name="entrypoint", args={"commands": ["tini"]})
    layers.check(Image(steps=(Step(name="entrypoint"), Step(name="cmd", args={"commands": ["x"]}))))

    with pytest.raises(ImageError, match="`entrypoint` is not there yet"):
        layers.check(Image(steps=(entrypoint,)))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["error: No solution found", "  cause: Because x is not there"], "Because x is not there"),
        (
            ["noise", "error: Failed to build `x==1`", "  cause: one", "         error: inner"],
            "Failed to build `x==1`: one",
        ),
        (["Package six (1.16.0) not found.", ""], "Package six (1.16.0) not found."),
        ([], "it said nothing"),
    ],
)
def test_uvs_message_in_one_line(lines, told):
    assert told == in_one_line(lines)
