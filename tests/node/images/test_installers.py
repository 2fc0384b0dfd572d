"""Steps that install packages become commands of uv."""

from pathlib import PurePath

import pytest

from homeport.contract.image import Step
from homeport.node.images.installers import Installing, Syncing, repeated

SEEN = PurePath("/seen")
HERE = ["--python", "/python"]
BEST = ["--index-strategy", "unsafe-best-match"]


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("pip_install", {"packages": ["a", "b"]}, ["a", "b", *BEST]),
        ("uv_pip_install", {"packages": ["a"]}, ["a"]),
        ("uv_pip_install", {"requirements": "a==1\n"}, ["-r", "/seen/requirements.txt"]),
        (
            "pip_install_from_requirements",
            {"requirements": "a==1\n", "constraints": "b<2\n"},
            ["-r", "/seen/requirements.txt", "-c", "/seen/constraints.txt", *BEST],
        ),
        (
            "pip_install_from_pyproject",
            {"pyproject": "[project]\n", "optional_dependencies": ["x", "y"]},
            ["-r", "/seen/pyproject.toml", "--extra", "x", "--extra", "y", *BEST],
        ),
        (
            "uv_pip_install",
            {
                "packages": ["a"],
                "find_links": "https://links",
                "index_url": "https://one",
                "extra_index_url": ["https://two", "https://three"],
                "pre": True,
                "extra_options": "--no-deps --refresh",
            },
            [
                *("--find-links", "https://links", "--index-url", "https://one"),
                *("--extra-index-url", "https://two", "--extra-index-url", "https://three"),
                *("--prerelease", "allow", "--no-deps", "--refresh", "a"),
            ],
        ),
    ],
)
def test_a_step_is_one_command_with_its_packages_and_options(tmp_path, name, args, words):
    step = Installing(Step(name=name, args=args), tmp_path, SEEN, "/python")

    assert [["pip", "install", *HERE, *words]] == step.commands()
    assert [["pip", "install", *HERE, "--break-system-packages", *words]] == (
        step.commands(held=True)
    )


def test_the_files_of_a_step_are_written_for_uv(tmp_path):
    args = {"requirements": "a==1\n", "constraints": "b<2\n"}
    Installing(Step(name="uv_pip_install", args=args), tmp_path, SEEN, "/python").commands()

    assert ["b<2\n", "a==1\n"] == [file.read_text() for file in sorted(tmp_path.iterdir())]


def test_another_step_is_a_mistake_of_ours(tmp_path):
    with pytest.raises(KeyError):
        Installing(Step(name="run_commands"), tmp_path, SEEN, "/python").commands()


@pytest.mark.parametrize(
    ("name", "lock"), [("uv_sync", "uv.lock"), ("poetry_install_from_file", "poetry.lock")]
)
def test_a_project_is_written_with_its_lock_file_if_it_has_one(tmp_path, name, lock):
    for number, lockfile in enumerate(("locked\n", None)):
        directory = tmp_path / str(number)
        directory.mkdir()
        args = {"pyproject": "[project]\n", "lockfile": lockfile}
        Syncing(Step(name=name, args=args), directory, SEEN).write()

    assert "locked\n" == (tmp_path / "0" / lock).read_text()
    assert ["pyproject.toml"] == [file.name for file in (tmp_path / "1").iterdir()]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, []),
        ({"lockfile": "x", "frozen": True}, ["--frozen"]),
        ({"lockfile": "x", "frozen": False}, []),
        ({"frozen": True}, []),  # there is nothing to be frozen
        (
            {"groups": ["web"], "extras": ["gpu", "s3"], "extra_options": "--no-dev"},
            ["--group", "web", "--extra", "gpu", "--extra", "s3", "--no-dev"],
        ),
    ],
)
def test_uv_syncs_the_project_as_the_step_asks(tmp_path, args, words):
    syncing = Syncing(Step(name="uv_sync", args=args), tmp_path, SEEN)

    assert ["--project", "/seen", *words] == syncing.sync()


@pytest.mark.parametrize(
    ("args", "poetry", "options"),
    [
        ({}, "poetry", []),
        ({"poetry_version": "latest"}, "poetry", []),
        (
            {"poetry_version": "2.1", "with_": ["a"], "without": ["b", "c"], "only": ["d"]},
            "poetry==2.1",
            ["--with", "a", "--without", "b", "--without", "c", "--only", "d"],
        ),
    ],
)
def test_poetry_installs_the_project_as_the_step_asks(tmp_path, args, poetry, options):
    words = Syncing(Step(name="poetry_install_from_file", args=args), tmp_path, SEEN).poetry()

    assert ["tool", "run", "--from", poetry, "poetry", "install"] == words[:6]
    assert ["--no-root", "--no-interaction", "--no-ansi", "--directory", "/seen"] == words[6:11]
    assert options == words[11:]


@pytest.mark.parametrize(
    ("lockfile", "commands"), [("locked", ["export"]), (None, ["lock", "export"])]
)
def test_poetry_locks_what_is_not_locked_and_writes_a_list_for_another_python(
    tmp_path, lockfile, commands
):
    args = {"lockfile": lockfile, "only": ["web"]}
    syncing = Syncing(Step(name="poetry_install_from_file", args=args), tmp_path, SEEN)
    told = syncing.exported("/usr/bin/python3", "/tmp/list")

    assert commands == [words[words.index("poetry", 7) + 1] for words in told]
    assert all(words[2:4] == ["--python", "/usr/bin/python3"] for words in told)
    assert ["--output", "/tmp/list"] == told[-1][-8:-6]
    assert ["--directory", "/seen", "--only", "web"] == told[-1][-4:]


def test_an_option_stands_before_each_of_its_values():
    assert ["-x", "one"] == repeated("-x", "one")
    assert ["-x", "1", "-x", "2"] == repeated("-x", ["1", "2"])
    assert [] == repeated("-x", None)
