"""The Debian that images begin with; a real one takes most of a minute, so this one is stopped at its start."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from homeport.node.images.rooted import debian
from tests import processes
from tests.waiting import until


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mmdebstrap") is None, reason="root and mmdebstrap are needed"
)
async def test_a_debian_that_is_stopped_leaves_no_mount_and_no_process(tmp_path, monkeypatch):
    # Stands for mmdebstrap while it has this machine's /proc mounted.
    seconds = f"63.{os.getpid()}"  # nobody else's
    program = tmp_path / "mmdebstrap"
    program.write_text(
        '#!/bin/sh\nmkdir "$TMPDIR/proc" && mount -t proc proc "$TMPDIR/proc" && echo mounted\n'
        f"sleep {seconds}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    said: list[str] = []
    (tmp_path / "build").mkdir()
    making = asyncio.create_task(
        debian.make("bookworm", tmp_path / "build" / "debian.tar", said.append)
    )
    await until(lambda: "mounted" in said, "the mount")
    making.cancel()
    await asyncio.wait([making])

    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert [] == processes.with_word(seconds)


def test_recommended_packages_are_left_out_by_an_option():
    words = debian.installing(["a", "b"], only=True)

    assert ["a", "b"] == words[-2:]
    assert "Install-Recommends=false" in words[2]
    assert "Recommends" not in debian.installing(["a"])[2]
