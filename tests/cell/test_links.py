"""Links in a root file system, in place of what is there. tests/node/cells/test_gpus.py makes them in cells."""

import os
from pathlib import Path

from homeport.cell import links


def test_libraries_get_links_beside_the_c_library(tmp_path, monkeypatch):
    first, second = tmp_path / "lib64", tmp_path / "lib"
    for folder in (first, second):
        folder.mkdir()
    (second / links.LIBC).touch()
    monkeypatch.setattr(links, "FOLDERS", (str(first), str(second)))
    links.lay({links.LIBRARIES: {"libcuda.so.1": "/nvidia/libcuda.so.580"}}, str(tmp_path))

    assert "/nvidia/libcuda.so.580" == str((second / "libcuda.so.1").readlink())
    assert [] == [*first.iterdir()]


def test_an_image_without_a_c_library_gets_no_links(tmp_path, monkeypatch):
    monkeypatch.setattr(links, "FOLDERS", (str(tmp_path),))
    links.lay({links.LIBRARIES: {"libcuda.so.1": "/nvidia/libcuda.so.580"}}, str(tmp_path))

    assert [] == [*tmp_path.iterdir()]


def test_a_link_replaces_a_file_and_a_link_and_no_directory(tmp_path):
    for name in ("file", "link", "directory"):
        (tmp_path / name).mkdir() if name == "directory" else (tmp_path / name).touch()
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    names = ("file", "link", "directory", "new/deep")
    asked = {"links": {links.PATHS: {f"{tmp_path}/{name}": "to" for name in names}}}
    links.of(asked)(str(tmp_path))

    assert ["to"] * 3 == [
        str((tmp_path / n).readlink()) for n in names if (tmp_path / n).is_symlink()
    ]
    assert (tmp_path / "directory").is_dir()
    assert not (tmp_path / "nowhere").exists()


def test_a_request_without_links_changes_nothing():
    assert links.of({}) is None
    assert links.of({"links": {}}) is None


def test_the_c_library_of_this_machine_is_in_a_folder_that_is_looked_at():
    folders = [folder for folder in links.FOLDERS if (Path(folder) / links.LIBC).exists()]

    assert folders or "glibc" not in os.confstr("CS_GNU_LIBC_VERSION")
