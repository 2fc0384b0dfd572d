"""A backup without a passphrase may be anybody's: whoever writes a whole one, with a right digest, gets nothing but its parts."""

import base64
import json
import os
import tarfile

import pytest

from homeport.contract.errors import BadRequest
from homeport.settings import Settings
from homeport.state import archive, backup
from homeport.state.volume_files import Restored
from tests import trees
from tests.state.test_backup import DIGEST, fill, rewritten

VOLUME = f"volumes/main/main/vo-{'0' * 22}"


@pytest.fixture
async def file(tmp_path):
    settings = Settings(home=tmp_path / "home")
    await fill(settings)
    backup.make(settings, tmp_path / "file", force=False)
    return tmp_path / "file"


def added(*members):
    """Add these members behind the rows."""
    return lambda name, content: [(name, content), *(members if name == archive.ROWS else ())]


def private(**files):
    """Change the private files; None takes one away."""

    def change(name, content):
        if name == archive.PRIVATE:
            changed = {**json.loads(content), **files}
            content = json.dumps({n: c for n, c in changed.items() if c is not None}).encode()
        return [(name, content)]

    return change


def encoded(content: bytes = b"evil") -> str:
    return base64.b64encode(content).decode()


FORGED = {
    "a member that leads out": added(("blobs/../../evil", b"x")),
    "a member with a path of its own": added(("/var/tmp/evil", b"x")),
    "a member of another name": added(("evil", b"x")),
    "a blob with another content": added((f"blobs/{'0' * 64}", b"x")),
    "the same blob again": added((f"blobs/{DIGEST}", b"print('hello')")),
    "the same file of a volume again": added(*[(f"{VOLUME}/files/x", b"x")] * 2),
    "a volume that leads out": added((f"volumes/main/../vo-{'0' * 22}/files/x", b"x")),
    "a volume without a workspace": added((f"volumes/vo-{'0' * 22}/files/x", b"x")),
    "a file of a volume that leads out": added((f"{VOLUME}/files/../../x", b"x")),
    "a private file that leads out": private(**{"certificates/../../evil": encoded()}),
    "a private file in the middle of which is a way out": private(**{"tls/a/../../x": encoded()}),
    "a private file with a path of its own": private(**{"/etc/evil": encoded()}),
    "a private file of another name": private(**{"ssh/id": encoded()}),
    "a private file below a file": private(**{"config.toml/x": encoded()}),
    "a private name with NUL": private(**{"certificates/a\0b": encoded()}),
    "a private file that is no base64": private(**{"certificates/a.pem": "!"}),
    "no key": private(**{archive.KEY: None}),
    "an endless description": lambda n, c: [(n, c + b" " * 2**20 if n == archive.CONTENTS else c)],
}


def unpacked(file, tmp_path) -> archive.Contents:
    folder = tmp_path / "folder"
    folder.mkdir()
    return archive.unpack(file, folder, passphrase="", volumes=Restored(folder / "volumes"))


def there(tmp_path) -> set[str]:
    """Return what is beside the folder into which a backup is unpacked."""
    return {str(path) for path in trees.paths(tmp_path) if "folder" not in path.parts}


async def test_a_backup_that_somebody_has_written_again_is_as_good_as_any(file, tmp_path):
    rewritten(file, tmp_path / "same", lambda name, content: [(name, content)], resigned=True)

    assert archive.KEY in unpacked(tmp_path / "same", tmp_path).private


@pytest.mark.parametrize("kind", FORGED)
async def test_a_forged_backup_with_a_right_digest_is_refused_and_writes_nothing_elsewhere(
    kind, file, tmp_path
):
    rewritten(file, tmp_path / "forged", FORGED[kind], resigned=True)
    before = there(tmp_path)
    with pytest.raises(BadRequest, match="is damaged"):
        unpacked(tmp_path / "forged", tmp_path)

    assert before == there(tmp_path)
    assert not os.path.exists("/var/tmp/evil")


@pytest.mark.parametrize("name", [archive.ROWS, f"blobs/{DIGEST}", archive.PRIVATE, archive.END])
async def test_a_link_is_no_part_of_a_backup(file, tmp_path, name):
    (tmp_path / "outside").write_text("x")
    with tarfile.open(file) as old, tarfile.open(tmp_path / "forged", "w:gz") as new:
        writer = archive._Writer(new)
        for member in old:
            if member.name == name:
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "outside")
                writer.add(link)
                continue
            content = old.extractfile(member).read()
            if member.name == archive.END:
                content = json.dumps(
                    {**json.loads(content), "sha256": writer.digest.hexdigest()}
                ).encode()
            writer.text(member.name, content)
    with pytest.raises(BadRequest, match="is damaged"):
        unpacked(tmp_path / "forged", tmp_path)

    assert "x" == (tmp_path / "outside").read_text()


async def test_a_backup_is_for_its_owner_alone_and_so_is_each_unpacked_file(file, tmp_path):
    before = os.umask(0)
    try:
        backup.make(Settings(home=tmp_path / "home"), tmp_path / "again", force=False)
        unpacked(tmp_path / "again", tmp_path)
    finally:
        os.umask(before)

    assert 0o600 == (tmp_path / "again").stat().st_mode & 0o777
    files = trees.files(tmp_path / "folder")
    assert {archive.ROWS, DIGEST} == {path.name for path in files}
    assert {0o600} == {path.stat().st_mode & 0o777 for path in files}
