"""What `homeport app diff` and `app deploys` print."""

import pytest

from homeport.cli.history import lines_of, result
from homeport.contract.api.apps import Changes, FileChange, FileState, SettingChange
from homeport.contract.api.deploys import DeployRecord

OLD, NEW = FileState(size_bytes=1, sha256="a"), FileState(size_bytes=2, sha256="b")


def test_settings_come_first_then_files_and_what_was_left_out():
    changes = Changes(
        app="shop",
        before=1,
        after=2,
        settings=(
            SettingChange(function="f", setting="cpu", before=None, after="2"),
            SettingChange(function="", setting="image", before="a\nb", after=None),
        ),
        files=(
            FileChange(path="a.py", before=OLD, after=NEW, diff="--- a/a.py\n+++ b/a.py\n+x"),
            FileChange(path="logo", before=OLD, after=NEW),
            FileChange(path="new", before=None, after=NEW),
            FileChange(path="gone", before=OLD, after=None),
            FileChange(
                path="run",
                before=OLD,
                after=FileState(size_bytes=1, sha256="a", executable=True),
            ),
        ),
        left_out=3,
    )

    assert [
        "@ f: cpu",
        "+2",
        "@ image",
        "-a",
        "-b",
        "--- a/a.py",
        "+++ b/a.py",
        "+x",
        "@ logo: 1 -> 2 bytes",
        "+ new (2 bytes)",
        "- gone (1 bytes)",
        "@ run: executable: False -> True",
        "… and 3 more files",
    ] == lines_of(changes)


@pytest.mark.parametrize(
    ("kept", "word"),
    [("ok", "ok"), ("running", "running"), ("skipped", "skipped"), ("StartError", "failed")],
)
def test_a_result_is_a_word_for_people(kept, word):
    record = DeployRecord(
        id=1, app="shop", kind="deploy", at=1.0, ended_at=2.0, version=None, tag="", by="socket",
        user="", result=kept,
    )  # fmt: skip

    assert word == result(record)
