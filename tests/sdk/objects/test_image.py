"""An image is never changed: each step returns another one, or the same if there is nothing to do."""

import modal
import pytest

SLIM = modal.Image.debian_slim()


@pytest.mark.parametrize(
    "same",
    [
        lambda image: image.pip_install(),
        lambda image: image.pip_install([]),
        lambda image: image.uv_pip_install(),
        lambda image: image.uv_pip_install(requirements=[]),
        lambda image: image.apt_install(),
        lambda image: image.run_commands(),
    ],
)
def test_a_step_without_anything_to_do_is_none(same):
    assert SLIM is same(SLIM)


@pytest.mark.parametrize(
    "step",
    [
        lambda image: image.pip_install("a"),
        lambda image: image.uv_pip_install("a"),
        lambda image: image.apt_install("a"),
        lambda image: image.run_commands("true"),
        lambda image: image.env({"A": "1"}),
    ],
)
def test_a_step_leaves_the_image_before_as_it_was(step):
    before = list(SLIM._steps)
    after = step(SLIM)

    assert SLIM is not after
    assert before == list(SLIM._steps)
    assert len(before) + 1 == len(after._steps)
