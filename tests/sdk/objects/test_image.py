"""An image is never changed: each step returns another one, or the same if there is nothing to do."""

from pathlib import Path

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
        lambda image: image.dockerfile_commands(),
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
        lambda image: image.micromamba_install("a"),
        lambda image: image.pip_install_private_repos(
            "github.com/me/a",
            git_user="me",
            secrets=[modal.Secret.from_dict({"GITHUB_TOKEN": "x"})],
        ),
        lambda image: image.run_commands("true"),
        lambda image: image.dockerfile_commands("RUN true"),
        lambda image: image.dockerfile_commands(["RUN true", "WORKDIR /a"]),
        lambda image: image.env({"A": "1"}),
        lambda image: image.workdir("/a"),
        lambda image: image.entrypoint(["sh", "-c"]),
        lambda image: image.shell(["bash", "-c"]),
        lambda image: image.cmd(["true"]),
        lambda image: image.add_local_file(__file__, "/a"),
        lambda image: image.add_local_dir(Path(__file__).parent, "/a"),
        lambda image: image.add_local_python_source("tests"),
    ],
)
def test_a_step_leaves_the_image_before_as_it_was(step):
    before = list(SLIM._steps)
    after = step(SLIM)

    assert SLIM is not after
    assert before == list(SLIM._steps)
    assert before == list(after._steps)[:-1]
    assert after._steps[-1].args


def test_a_step_says_what_it_was_given_and_nothing_of_modals_machines():
    image = SLIM.pip_install("a", gpu="T4").run_commands("b", "c", force_build=True)
    read = SLIM.dockerfile_commands("RUN true", "WORKDIR /a").spec.steps[-1]

    assert [("pip_install", {"packages": ["a"]})] == [
        (step.name, dict(step.args)) for step in image.spec.steps[1:2]
    ]
    assert {"commands": ["b", "c"], "force_build": True} == dict(image.spec.steps[2].args)
    assert ["RUN true", "WORKDIR /a"] == read.args["commands"]


@pytest.mark.parametrize("name", ["entrypoint", "shell", "cmd"])
def test_a_program_and_its_arguments_are_a_list_of_strings(name):
    (step,) = getattr(SLIM, name)(["a", "-b"]).spec.steps[1:]

    assert (name, {"commands": ["a", "-b"]}) == (step.name, dict(step.args))
    for wrong in ("a -b", ["a", 1], None):
        with pytest.raises(InvalidError, match=f"`{name}` takes a list of strings"):
            getattr(SLIM, name)(wrong)


def test_a_path_is_given_as_text():
    step = SLIM.pip_install("a", find_links=Path("/wheels")).spec.steps[-1]

    assert "/wheels" == step.args["find_links"]


def test_each_beginning_is_a_step_with_its_arguments():
    begun = [
        modal.Image.debian_slim("3.12"),
        modal.Image.from_registry("a:1", add_python="3.12"),
        modal.Image.from_gcp_artifact_registry("b:1"),
        modal.Image.from_aws_ecr("c:1"),
        modal.Image.micromamba("3.11"),
        modal.Image.from_scratch(),
    ]
    told = [(step.name, dict(step.args)) for image in begun for step in image.spec.steps]

    assert [
        ("debian_slim", {"python_version": "3.12"}),
        ("from_registry", {"tag": "a:1", "add_python": "3.12"}),
        ("from_gcp_artifact_registry", {"tag": "b:1"}),
        ("from_aws_ecr", {"tag": "c:1"}),
        ("micromamba", {"python_version": "3.11"}),
        ("from_scratch", {}),
    ] == told
    assert "Image(debian_slim)" == repr(SLIM)
    assert SLIM.pipe(modal.Image.pip_install, "a").spec == SLIM.pip_install("a").spec


def test_a_step_that_builds_is_refused_after_files_that_are_only_mounted():
    mounted = SLIM.add_local_file(__file__, "/a")

    with pytest.raises(InvalidError, match="`apt_install` comes after `add_local_file`"):
        mounted.apt_install("b")
    assert "env" == mounted.env({"A": "1"}).spec.steps[-1].name
    copied = SLIM.add_local_file(__file__, "/a", copy=True).apt_install("b")
    assert ["add_local_file", "apt_install"] == [step.name for step in copied.spec.steps[1:]]


def test_a_variable_forces_what_builds_something(monkeypatch):
    monkeypatch.setenv("HOMEPORT_FORCE_BUILD", "1")
    image = SLIM.apt_install("a").env({"A": "1"})

    assert [True, None] == [step.args.get("force_build") for step in image.spec.steps[1:]]


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


def test_a_project_of_poetry_without_its_lock_file_says_what_to_do(tmp_path):
    project = tmp_path / "pyproject.toml"
    project.write_text("[tool.poetry]\n")
    with pytest.raises(InvalidError, match=r"`poetry lock`.*`ignore_lockfile=True`"):
        modal.Image.debian_slim().poetry_install_from_file(str(project))
    modal.Image.debian_slim().poetry_install_from_file(str(project), ignore_lockfile=True)
