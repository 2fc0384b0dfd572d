"""Files that a COPY takes out of an image."""

import io
import os
import pwd
import subprocess
import sys
import tarfile

import pytest

from homeport.node.images.owned import laying


@pytest.fixture
def packed(tmp_path):
    """Pack a directory with a file of each kind; return the members of the archive by their names."""
    source = tmp_path / "source"
    (source / "empty").mkdir(parents=True)
    (source / "tool").write_text("#!/bin/sh\n")
    (source / "tool").chmod(0o4750)
    os.utime(source / "tool", (7, 7))
    os.link(source / "tool", source / "twin")
    (source / "link").symlink_to("tool")
    os.mkfifo(source / "pipe")

    def packed(**options):
        out = io.BytesIO()
        laying.pack(out, [str(source)], "/opt", **{"is_directory": True, "mode": None} | options)
        out.seek(0)
        with tarfile.open(fileobj=out) as tar:
            return {member.name: member for member in tar}

    return packed


def test_files_keep_their_kind_mode_date_and_other_names_but_no_owner(packed):
    members = packed()

    assert {"opt/empty", "opt/tool", "opt/twin", "opt/link", "opt/pipe"} == members.keys()
    assert members["opt/empty"].isdir()
    assert (0o4750, 7, 10) == tuple(
        getattr(members["opt/tool"], key) for key in ("mode", "mtime", "size")
    )
    assert members["opt/twin"].islnk()
    assert "opt/tool" == members["opt/twin"].linkname
    assert members["opt/link"].issym()
    assert "tool" == members["opt/link"].linkname
    assert members["opt/pipe"].isfifo()
    assert {(0, 0, "", "")} == {(m.uid, m.gid, m.uname, m.gname) for m in members.values()}


def test_a_mode_of_the_instruction_is_that_of_files_and_directories(packed):
    members = packed(mode=0o600, is_directory=False)

    assert {"opt", "opt/empty", "opt/tool", "opt/twin", "opt/link", "opt/pipe"} == members.keys()
    assert {0o600} == {member.mode for member in members.values() if not member.issym()}


def test_no_library_of_the_image_is_asked_for_the_names_of_owners(packed, monkeypatch):
    asked = []
    monkeypatch.setattr(pwd, "getpwuid", asked.append)
    packed()

    assert [] == asked


#: After `load`, a module beside the program is what the image's would be in a cell.
LATE = """
import sys
from homeport.node.images.owned import archives
archives.load()
sys.path.insert(0, sys.argv[1])
try:
    import planted
except ImportError:
    raise RuntimeError("as a bug would") from None
"""


def test_work_in_an_images_cell_imports_no_module_of_the_image(tmp_path):
    (tmp_path / "planted.py").write_text("print('planted')")
    ended = subprocess.run(
        [sys.executable, "-c", LATE, str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert "" == ended.stdout
    assert ended.stderr.endswith("RuntimeError: as a bug would\n")
