"""An image is never changed: each step returns another one, or the same if there is nothing to do."""

import modal
import pytest

from homeport.sdk.exception import InvalidError

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


def test_each_step_names_its_own_secrets_and_volumes():
    one, two = modal.Secret.from_dict({"A": "1"}), modal.Secret.from_dict({"B": "2"})
    volume = modal.Volume.from_name("models")
    image = (
        SLIM.run_commands("a", secrets=[one])
        .run_commands("b", secrets=[two, one], volumes={"/models/": volume})
        .run_commands("c", volumes={"/m": volume})
    )
    told = [(s.args.get("secrets"), s.args.get("volumes")) for s in image.spec.steps[1:]]

    assert [([0], None), ([1, 2], [0]), (None, [1])] == told
    assert (one, two, one) == image.build_secrets
    assert ["/models", "/m"] == [mount.path for mount in image.build_volumes]


def test_private_repositories_need_a_secret_and_a_known_host():
    secret = modal.Secret.from_dict({"GITHUB_TOKEN": "x"})
    with pytest.raises(InvalidError, match="No secrets provided"):
        SLIM.pip_install_private_repos("github.com/me/a", git_user="me")
    with pytest.raises(InvalidError, match="1 out of 2 given repository refs are invalid"):
        SLIM.pip_install_private_repos(
            "github.com/me/a", "example.com/me/b", git_user="me", secrets=[secret]
        )
    with pytest.raises(TypeError):
        SLIM.pip_install_private_repos("github.com/me/a", secrets=[secret])
