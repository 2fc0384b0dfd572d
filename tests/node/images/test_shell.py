"""A shell in an image."""

import dataclasses
import subprocess
import sys

import pytest

from homeport.contract import codec
from homeport.contract.errors import ImageError
from homeport.node.images import shell, store
from homeport.node.images.rooted.plan import Config
from homeport.node.images.store import Store


def test_the_newest_image_is_chosen_or_the_one_whose_key_begins_so(tmp_path):
    for name, at, root in (("aa11", 1.0, True), ("aa22", 2.0, True), ("bb33", 3.0, False)):
        (tmp_path / name).mkdir()
        config = codec.encode(dataclasses.replace(Config(), workdir=f"/{name}"))
        record = {"steps": ["x"], "images": [], "created_at": at, "config": config}
        store.write(tmp_path / name, {**record, **({"lowers": []} if root else {})})
    kept = Store(tmp_path)

    assert "/aa22" == shell.chosen(kept, "")["config"]["workdir"]
    assert "/aa11" == shell.chosen(kept, "aa1")["config"]["workdir"]
    with pytest.raises(ImageError, match="no image `bb` has a root file system"):
        shell.chosen(kept, "bb")


def test_an_image_that_is_not_there_is_an_error_of_one_line(tmp_path):
    words = [sys.executable, "-m", "homeport.node.images.shell", str(tmp_path), "zz"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert 1 == done.returncode
    assert done.stderr.startswith("error: no image `zz` has a root file system of its own\n")
