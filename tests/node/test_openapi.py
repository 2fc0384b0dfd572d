"""The files of FastAPI's pages are laid once, and a newer package's replace them."""

import gzip
import logging
import os

from homeport.contract.openapi import FOLDER, KINDS
from homeport.node import openapi


def test_all_files_are_laid_and_written_again_only_if_they_change(tmp_path):
    openapi.lay(tmp_path)
    files = {path.name: path.stat() for path in (tmp_path / FOLDER).iterdir()}
    openapi.lay(tmp_path)
    again = {path.name: path.stat() for path in (tmp_path / FOLDER).iterdir()}
    old = tmp_path / FOLDER / "swagger-ui.css.gz"
    old.write_bytes(b"old")
    os.utime(old, (1, 1))
    openapi.lay(tmp_path)

    assert {f"{name}.gz" for name in KINDS} == set(files)
    assert {name: each.st_ino for name, each in files.items()} == {
        name: each.st_ino for name, each in again.items()
    }
    assert b".swagger-ui" in gzip.decompress(old.read_bytes())


def test_no_file_shows_an_image_of_another_host(tmp_path):
    openapi.lay(tmp_path)
    texts = [gzip.decompress(path.read_bytes()) for path in (tmp_path / FOLDER).iterdir()]

    assert [] == [found for text in texts for found in openapi.ELSEWHERE.findall(text)]
    assert 1 == sum(text.count(openapi.NOTHING) for text in texts)


def test_a_missing_package_is_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(openapi, "PACKAGE", "not_installed_here")
    with caplog.at_level(logging.WARNING):
        openapi.lay(tmp_path)

    assert "needs the internet" in caplog.text
    assert not (tmp_path / FOLDER).exists()


def test_a_directory_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / FOLDER).write_text("in the way")
    openapi.lay(tmp_path)

    assert "needs the internet" in caplog.text
