"""What an image's steps say about its containers."""

import pytest

from homeport.contract.image import CONFIG_STEPS, ROOTED_STEPS, Image, Step


def image(*steps: str, **args) -> Image:
    return Image(steps=tuple(Step(name=name, args=args) for name in steps))


@pytest.mark.parametrize(
    "name", ["env", "workdir", "add_local_file", "add_local_dir", "add_local_python_source"]
)
def test_an_image_that_only_sets_values_needs_no_build(name):
    assert not image(name).has_environment
    assert not image(name).is_rooted
    assert image(name, "pip_install").has_environment


@pytest.mark.parametrize("name", sorted(ROOTED_STEPS))
def test_an_image_whose_files_change_has_a_root_of_its_own(name):
    assert image("env", name).is_rooted
    assert image("env", name).has_environment


@pytest.mark.parametrize("name", ["debian_slim", "pip_install", "uv_pip_install", "uv_sync"])
def test_packages_alone_need_no_root_of_their_own(name):
    assert not image(name).is_rooted


def test_a_later_step_wins():
    steps = (
        Step(name="env", args={"vars": {"A": "1", "B": "1"}}),
        Step(name="workdir", args={"path": "/a"}),
        Step(name="entrypoint", args={"commands": ["a"]}),
        Step(name="env", args={"vars": {"B": "2"}}),
        Step(name="workdir", args={"path": "/b"}),
        Step(name="entrypoint", args={"commands": ["b", "c"]}),
    )

    assert {"A": "1", "B": "2"} == Image(steps=steps).environ
    assert "/b" == Image(steps=steps).workdir
    assert ("b", "c") == Image(steps=steps).entrypoint


def test_an_image_without_steps_sets_nothing():
    assert ({}, None, ()) == (Image().environ, Image().workdir, Image().entrypoint)
    assert not Image().has_environment


def test_no_step_both_builds_and_sets_values_alone():
    assert not CONFIG_STEPS & ROOTED_STEPS
