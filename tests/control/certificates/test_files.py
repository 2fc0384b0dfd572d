"""The user's own certificates: files that come, change and go."""

import errno
import os
from pathlib import Path

import pytest

from homeport.control.certificates.files import Files, listed
from tests.certificates import UNUSUAL, Authority
from tests.fakes import FakeIngress

AUTHORITY = Authority()


@pytest.fixture
def ingress():
    return FakeIngress()


def hosts(ingress: FakeIngress) -> list[tuple[str, ...]]:
    """Return the hosts of each certificate that the ingress has."""
    return sorted(names for _, names in ingress.certificates.values())


async def test_a_file_comes_is_renewed_and_goes(tmp_path, ingress):
    files = Files(tmp_path, ingress)
    await files.look()
    path = tmp_path / "shop.pem"
    path.write_bytes(AUTHORITY.pem("shop.test", "*.shop.test"))
    await files.look()
    (first,) = ingress.certificates.values()
    await files.look()
    path.write_bytes(AUTHORITY.pem("shop.test"))
    await files.look()
    (second,) = ingress.certificates.values()
    path.unlink()
    await files.look()
    await files.look()

    assert ("shop.test", "*.shop.test") == first[1]
    assert ("shop.test",) == second[1]
    assert {} == ingress.certificates
    assert ["certificate", "certificate", "remove_certificate"] == [c[0] for c in ingress.calls]


async def test_a_pair_of_files_and_a_directory_of_certbot_are_read(tmp_path, ingress):
    key, mark, certificate = AUTHORITY.pem("a.test").partition(b"-----BEGIN CERTIFICATE")
    (tmp_path / "a.key").write_bytes(key)
    (tmp_path / "a.crt").write_bytes(mark + certificate)
    live = tmp_path / "b.test"
    live.mkdir()
    key, mark, certificate = AUTHORITY.pem("b.test").partition(b"-----BEGIN CERTIFICATE")
    (live / "privkey.pem").write_bytes(key)
    (live / "fullchain.pem").write_bytes(mark + certificate)
    (live / "chain.pem").write_bytes(b"of certbot too")
    await Files(tmp_path, ingress).look()

    assert [("a.test",), ("b.test",)] == hosts(ingress)


async def test_a_damaged_file_is_reported_once_and_the_one_before_stays(tmp_path, ingress, caplog):
    files = Files(tmp_path, ingress)
    path = tmp_path / "a.pem"
    path.write_bytes(AUTHORITY.pem("a.test"))
    await files.look()
    path.write_bytes(b"half")
    await files.look()
    await files.look()

    assert [("a.test",)] == hosts(ingress)
    assert 1 == caplog.text.count("the one before stays")


async def test_what_went_while_no_server_ran_is_removed_at_the_start(tmp_path, ingress):
    (tmp_path / "a.pem").write_bytes(AUTHORITY.pem("a.test"))
    (found,) = listed(tmp_path)
    ingress.certificates = dict.fromkeys((found.name, "file-gone", "old"), (b"", ("x.test",)))
    files = Files(tmp_path, ingress, known=tuple(ingress.certificates))
    await files.open()
    await files.look()
    await files.close()

    assert [found.name] == list(ingress.certificates)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EMFILE, errno.EIO])
async def test_what_cannot_be_read_for_a_while_removes_nothing(
    tmp_path, ingress, monkeypatch, caplog, number
):
    (tmp_path / "a.pem").write_bytes(AUTHORITY.pem("a.test"))
    files = Files(tmp_path, ingress)
    await files.look()
    with monkeypatch.context() as broken:

        def fail(path: Path) -> None:
            raise OSError(number, os.strerror(number), str(path))

        broken.setattr(Path, "iterdir", fail)
        for _ in range(3):
            await files.look()
        during = hosts(ingress)
    (tmp_path / "a.pem").unlink()
    await files.look()
    await files.look()

    assert [("a.test",)] == during
    assert 1 == caplog.text.count(os.strerror(number))
    assert {} == ingress.certificates


async def test_no_descriptor_for_a_directory_in_it_removes_nothing(tmp_path, ingress, monkeypatch):
    (tmp_path / "live").mkdir()
    (tmp_path / "live/a.pem").write_bytes(AUTHORITY.pem("a.test"))
    files = Files(tmp_path, ingress)
    await files.look()
    usual = Path.iterdir

    def fail(path: Path):
        if path.name == "live":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return usual(path)

    monkeypatch.setattr(Path, "iterdir", fail)
    for _ in range(3):
        await files.look()

    assert [("a.test",)] == hosts(ingress)


async def test_a_file_that_is_away_for_a_moment_stays_in_use(tmp_path, ingress):
    link = tmp_path / "a.pem"
    text = tmp_path / "archive"
    text.write_bytes(AUTHORITY.pem("a.test"))
    link.symlink_to(text)
    files = Files(tmp_path, ingress)
    for _ in range(2):
        await files.look()
        link.unlink()
        await files.look()
        link.symlink_to(text)
    await files.look()

    assert [("a.test",)] == hosts(ingress)
    assert "remove_certificate" not in [call[0] for call in ingress.calls]


@pytest.mark.parametrize("kind", UNUSUAL)
async def test_a_certificate_that_the_library_refuses_stops_no_start(
    tmp_path, ingress, caplog, kind
):
    (tmp_path / "a.pem").write_bytes(AUTHORITY.unusual(kind))
    (tmp_path / "b.pem").write_bytes(AUTHORITY.pem("b.test"))
    files = Files(tmp_path, ingress)
    await files.open()
    await files.close()

    assert [("b.test",)] == hosts(ingress)
    assert "a.pem is not used: the certificate cannot be read" in caplog.text


async def test_a_directory_that_is_not_there_yet_stops_no_start(tmp_path, ingress, caplog):
    files = Files(tmp_path / "missing", ingress)
    await files.open()
    await files.close()

    assert {} == ingress.certificates
    assert "No such file or directory" in caplog.text
