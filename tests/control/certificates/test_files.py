"""The user's own certificates: files that come, change and go."""

import pytest

from homeport.control.certificates.files import Files, listed
from tests.certificates import Authority
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
    await files.close()

    assert [found.name] == list(ingress.certificates)


def test_a_directory_that_is_not_there_has_no_certificates(tmp_path):
    assert [] == list(listed(tmp_path / "missing"))
