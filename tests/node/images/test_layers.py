"""An environment's key depends on what its content depends on, and on nothing else."""

import dataclasses

import pytest

from homeport.contract.errors import ImageError
from homeport.contract.image import Image, Step
from homeport.node.images import layers
from homeport.node.images.uv import in_one_line

SLIM = Step(name="debian_slim")
FLASK = Step(name="pip_install", args={"packages": ["flask"]}, where="a.py:1")
SIX = Step(name="pip_install", args={"packages": ["six"]})
ENV = Step(name="env", args={"vars": {"A": "1"}})
COPY = Step(name="add_local_file", args={"copy": True, "files": {"/root/x": "12"}})
MOUNT = Step(name="add_local_file", args={"local_path": "/a/x", "remote_path": "/root/x"})


def keys(*steps: Step, version: str = "3.11.7", source: str = "rv-1") -> list[str]:
    return [layer.key for layer in layers.of(Image(steps=steps), version, source)]


def changed(step: Step, **args) -> Step:
    return dataclasses.replace(step, args={**step.args, **args})


def test_a_layer_is_shared_by_all_images_that_begin_alike():
    assert keys(SLIM, FLASK) == keys(SLIM, FLASK, SIX)[:2]
    assert len(keys(SLIM, FLASK)) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((SLIM, FLASK), (SLIM, dataclasses.replace(FLASK, where="b.py:9"))),
        ((SLIM, FLASK), (SLIM, FLASK, ENV, MOUNT)),
        ((SLIM, FLASK), (FLASK,)),
        ((SLIM, FLASK), (SLIM, COPY, FLASK)),
        ((SLIM, FLASK), (SLIM, changed(FLASK, local_path="/a", secrets=[0], volumes={"/v": "v"}))),
        ((SLIM, FLASK), (changed(SLIM, python_version="3.11"), FLASK)),
        (
            (changed(ENV, vars={"A": "1", "B": "2"}), FLASK),
            (changed(ENV, vars={"B": "2", "A": "1"}), FLASK),
        ),
        ((SLIM, FLASK), (SLIM, Step(name="workdir"), Step(name="cmd"), Step(name="shell"), FLASK)),
    ],
)
def test_a_step_that_changes_no_package_does_not_build_the_layer_again(one, other):
    assert keys(*one) == keys(*other)


@pytest.mark.parametrize(
    "steps",
    [
        (SLIM, changed(FLASK, packages=["flask<3"])),
        (SLIM, ENV, FLASK),
        (SLIM, changed(FLASK, force_build=True)),
    ],
)
def test_a_step_that_may_change_packages_builds_another_layer(steps):
    assert keys(*steps)[-1] != keys(SLIM, FLASK)[-1]


def test_a_layer_is_named_by_all_its_steps_without_their_variables_indexes_and_options():
    step = changed(FLASK, index_url="https://me:sesame@example.com", extra_options="--secret")
    run = Step(name="run_commands", args={"commands": ["a && b", "c"]})
    function = Step(name="run_function", args={"qualname": "build", "modules": ["m"]})
    copy = Step(name="add_local_file", args={"remote_path": "/root/x", "local_path": "/home/me/x"})
    slim = changed(SLIM, python_version="3.12")
    built = layers.of(Image(steps=(slim, changed(ENV, vars={"WORD": "sesame"}), step)), "3.12", "")

    assert [("debian_slim 3.12",), ("debian_slim 3.12", "pip_install flask")] == [
        layer.steps for layer in built
    ]
    assert ["run_commands a && b c", "run_function m build", "add_local_file /root/x"] == [
        layers.in_words(each) for each in (run, function, copy)
    ]


def test_another_python_is_another_environment():
    assert not {*keys(SLIM, FLASK)} & {*keys(SLIM, FLASK, version="3.12.1")}


def test_force_build_is_once_for_each_deploy():
    forced = changed(FLASK, force_build=True)

    assert keys(SLIM, forced) == keys(SLIM, forced)
    assert keys(SLIM, forced)[0] == keys(SLIM, forced, source="rv-2")[0]
    assert keys(SLIM, forced)[1] != keys(SLIM, forced, source="rv-2")[1]


def test_a_step_that_nobody_knows_is_named_with_its_place():
    with pytest.raises(ImageError, match="`fly` is not a step that this server knows") as caught:
        layers.check(Image(steps=(Step(name="fly", where="a.py:3"),)))

    assert "a.py:3" == caught.value.where


def test_the_last_entrypoint_counts_and_an_empty_one_is_none():
    tini, none = Step(name="entrypoint", args={"commands": ["tini"]}), Step(name="entrypoint")

    assert ("tini",) == Image(steps=(none, tini)).entrypoint
    assert () == Image(steps=(tini, none)).entrypoint
    layers.check(Image(steps=(tini,)))


def test_a_layer_depends_on_whose_secrets_its_step_has_seen():
    image = Image(steps=(Step(name="pip_install", args={"packages": ["a"], "secrets": [0]}),))
    keys = [layers.of(image, "3.12.1", "rv", lambda _step, s=s: [s])[-1].key for s in "aab"]

    assert keys[0] == keys[1] != keys[2]


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
def test_the_message_of_uv_is_shown_on_one_line(lines, told):
    assert told == in_one_line(lines)
