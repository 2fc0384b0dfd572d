"""Which files of a directory a Dockerfile's COPY takes."""

import pytest

from homeport.sdk.exception import InvalidError
from homeport.sdk.files import dockerfiles


@pytest.fixture
def base(tmp_path):
    for name in ("a.txt", "b.py", "src/c.py", "src/deep/d.py", "big/model.bin", "tools/run.sh"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(name)
    (tmp_path / "tools/run.sh").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("copies", "taken"),
    [
        ("COPY a.txt /x", ["a.txt"]),
        ("COPY ./src/ /x/", ["src/c.py", "src/deep/d.py"]),
        ("COPY *.py tools/*.sh /x/", ["b.py", "tools/run.sh"]),
        ('COPY ["a.txt", "b.py", "/x/"]', ["a.txt", "b.py"]),
        ("ARG D\nCOPY $D/c.py /x", ["src/c.py"]),
        ("RUN true", []),
    ],
)
def test_only_what_it_names_is_read(base, copies, taken):
    told = dockerfiles.read(
        "from_dockerfile", f"FROM x\n{copies}", context_dir=base, build_args={"D": "src"}
    )

    assert taken == sorted(told.get("files", {}))


def test_a_dockerignore_leaves_files_out_and_the_dockerfiles_own_comes_first(base):
    (base / ".dockerignore").write_text("# models\n/big\n")
    whole = dockerfiles.read("from_dockerfile", "FROM x\nCOPY . /x", context_dir=base)
    (base / "Dockerfile.dockerignore").write_text("src\nbig\n.dockerignore\n")
    own = dockerfiles.read(
        "from_dockerfile", "FROM x\nCOPY . /x", base / "Dockerfile", context_dir=base
    )
    given = dockerfiles.read("from_dockerfile", "FROM x\nCOPY . /x", context_dir=base, ignore=["*"])

    assert "big/model.bin" not in whole["files"]
    assert {"src/c.py", "tools/run.sh"} <= {*whole["files"]}
    assert not any(name.startswith("src/") for name in own["files"])
    assert {} == given["files"]


def test_modes_and_files_from_elsewhere_are_known(base, tmp_path):
    told = dockerfiles.read(
        "dockerfile_commands",
        "COPY tools here.txt /x/",
        context_dir=base,
        context_files={"./here.txt": str(base / "a.txt")},
    )

    assert ["tools/run.sh"] == told["executables"]
    assert str(base / "a.txt") == told["given"]["here.txt"]
    assert {*told["files"]} == {*told["given"]}


def test_an_instruction_that_cannot_be_carried_out_is_an_error_where_it_is_declared(base):
    with pytest.raises(InvalidError, match="`from_dockerfile`: line 2: `FLY`"):
        dockerfiles.read("from_dockerfile", "FROM x\nFLY away", context_dir=base)
