"""The user's own certificates: files that come, change and go."""

import errno
import os
import time
from pathlib import Path

import pytest

from homeport.contract.errors import BadRequest, IngressError
from homeport.control.certificates.files import Files, listed
from homeport.control.certificates.keeper import Keeper
from homeport.control.certificates.situation import Kind
from homeport.state.certificates import Certificates
from tests import databases
from tests.certificates import UNUSUAL, Authority
from tests.fakes import FakeIngress

AUTHORITY = Authority()


class House:
    """A keeper of the files in a directory, which looks when it is told to."""

    def __init__(self, home, files) -> None:
        self.database = databases.opened(home)
        self.rows = Certificates(self.database)
        self.files = files
        self.ingress = FakeIngress()
        self.now = time.time()
        self.keeper = self.new()

    def new(self, kept=None) -> Keeper:
        source = Files(self.files, look_s=0.0)
        clock = lambda: self.now  # noqa: E731 - read late
        keeper = Keeper(self.rows, self.ingress, source, stored=lambda: kept, clock=clock)
        keeper.wants(lambda: {"a.test": Kind.MAIN})
        return keeper

    async def look(self) -> None:
        await self.keeper._step()

    def hosts(self) -> list[tuple[str, ...]]:
        """Return the hosts of each certificate that the ingress has."""
        return sorted(names for _, names in self.ingress.certificates.values())


@pytest.fixture
async def house(tmp_path, tmp_path_factory):
    house = House(tmp_path_factory.mktemp("home"), tmp_path)
    yield house
    await house.keeper.close()
    await house.database.close()


async def test_a_file_comes_is_renewed_and_goes(tmp_path, house):
    await house.look()
    path = tmp_path / "shop.pem"
    path.write_bytes(AUTHORITY.pem("shop.test", "*.shop.test"))
    await house.look()
    (first,) = house.ingress.certificates.values()
    await house.look()
    path.write_bytes(AUTHORITY.pem("shop.test"))
    await house.look()
    (second,) = house.ingress.certificates.values()
    path.unlink()
    await house.look()
    await house.look()

    assert ("shop.test", "*.shop.test") == first[1]
    assert ("shop.test",) == second[1]
    assert {} == house.ingress.certificates
    assert ["certificate", "certificate", "remove_certificate"] == [
        c[0] for c in house.ingress.calls
    ]


async def test_a_pair_of_files_and_a_directory_of_certbot_are_read(tmp_path, house):
    key, mark, certificate = AUTHORITY.pem("a.test").partition(b"-----BEGIN CERTIFICATE")
    (tmp_path / "a.key").write_bytes(key)
    (tmp_path / "a.crt").write_bytes(mark + certificate)
    live = tmp_path / "b.test"
    live.mkdir()
    key, mark, certificate = AUTHORITY.pem("b.test").partition(b"-----BEGIN CERTIFICATE")
    (live / "privkey.pem").write_bytes(key)
    (live / "fullchain.pem").write_bytes(mark + certificate)
    (live / "chain.pem").write_bytes(b"of certbot too")
    await house.look()

    assert [("a.test",), ("b.test",)] == house.hosts()


async def test_a_damaged_file_is_reported_once_and_the_one_before_stays(tmp_path, house, caplog):
    path = tmp_path / "a.pem"
    path.write_bytes(AUTHORITY.pem("a.test"))
    await house.look()
    path.write_bytes(b"half")
    await house.look()
    await house.look()

    assert [("a.test",)] == house.hosts()
    assert 1 == caplog.text.count("the one before stays")


async def test_a_certificate_that_went_while_no_server_ran_is_removed_at_the_start(tmp_path, house):
    (tmp_path / "a.pem").write_bytes(AUTHORITY.pem("a.test"))
    (listing,) = listed(tmp_path)
    old = tmp_path / "old"  # of an earlier homeport, or of another source
    old.write_bytes(AUTHORITY.pem("x.test"))
    kept = dict.fromkeys((listing.name, "file-gone", "old"), old)
    house.ingress.certificates = dict.fromkeys(kept, (b"", ("x.test",)))
    house.keeper = house.new(kept)
    await house.keeper.start()
    await house.look()
    await house.look()

    assert [listing.name] == list(house.ingress.certificates)
    assert [("a.test",)] == house.hosts()


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EMFILE, errno.EIO])
async def test_a_directory_that_cannot_be_read_for_a_while_removes_no_certificate(
    tmp_path, house, monkeypatch, caplog, number
):
    (tmp_path / "a.pem").write_bytes(AUTHORITY.pem("a.test"))
    await house.look()
    with monkeypatch.context() as broken:

        def fail(path: Path) -> None:
            raise OSError(number, os.strerror(number), str(path))

        broken.setattr(Path, "iterdir", fail)
        for _ in range(3):
            await house.look()
        during = house.hosts()
    (tmp_path / "a.pem").unlink()
    await house.look()
    await house.look()

    assert [("a.test",)] == during
    assert 1 == caplog.text.count(os.strerror(number))
    assert {} == house.ingress.certificates


async def test_no_descriptor_for_a_directory_in_it_removes_nothing(tmp_path, house, monkeypatch):
    (tmp_path / "live").mkdir()
    (tmp_path / "live/a.pem").write_bytes(AUTHORITY.pem("a.test"))
    await house.look()
    usual = Path.iterdir

    def fail(path: Path):
        if path.name == "live":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return usual(path)

    monkeypatch.setattr(Path, "iterdir", fail)
    for _ in range(3):
        await house.look()

    assert [("a.test",)] == house.hosts()


async def test_a_file_that_is_away_for_a_moment_stays_in_use(tmp_path, house):
    link = tmp_path / "a.pem"
    text = tmp_path / "archive"
    text.write_bytes(AUTHORITY.pem("a.test"))
    link.symlink_to(text)
    for _ in range(2):
        await house.look()
        link.unlink()
        await house.look()
        link.symlink_to(text)
    await house.look()

    assert [("a.test",)] == house.hosts()
    assert "remove_certificate" not in [call[0] for call in house.ingress.calls]


@pytest.mark.parametrize("kind", UNUSUAL)
async def test_a_certificate_that_the_library_refuses_stops_no_start(tmp_path, house, caplog, kind):
    (tmp_path / "a.pem").write_bytes(AUTHORITY.unusual(kind))
    (tmp_path / "b.pem").write_bytes(AUTHORITY.pem("b.test"))
    await house.keeper.start()

    assert [("b.test",)] == house.hosts()
    assert "a.pem yet: the certificate cannot be read" in caplog.text


async def test_a_directory_that_is_not_there_yet_stops_no_start(tmp_path, house, caplog):
    house.files = tmp_path / "missing"
    house.keeper = house.new()
    await house.keeper.start()

    assert {} == house.ingress.certificates
    assert "No such file or directory" in caplog.text


async def test_lists_show_the_certificates_the_damaged_file_and_the_host_without(tmp_path, house):
    (tmp_path / "b.pem").write_bytes(AUTHORITY.pem("b.test"))
    (tmp_path / "half.pem").write_bytes(b"half")
    await house.look()
    await house.look()
    without, with_one, damaged = house.keeper.states()

    assert ("a.test", "waiting", True) == (
        without.host,
        without.state,
        "is for it" in without.error,
    )
    assert ("b.test", "valid", "files") == (with_one.host, with_one.state, with_one.source)
    assert (str(tmp_path / "half.pem"), "failed") == (damaged.host, damaged.state)
    with pytest.raises(BadRequest, match="reads again when they change"):
        await house.keeper.renew("a.test")
    (tmp_path / "half.pem").unlink()
    await house.look()
    await house.look()
    assert ["a.test", "b.test"] == [state.host for state in house.keeper.states()]


async def refused(tmp_path, house) -> None:
    """Look at a new certificate that the ingress refuses this once."""

    async def refuse(call: str, _what: str, _when: str) -> None:
        if call == "certificate":
            raise IngressError("no")

    (tmp_path / "a.pem").write_bytes(AUTHORITY.pem("a.test"))
    house.ingress.fault, usual = refuse, house.ingress.fault
    await house.look()
    house.ingress.fault = usual


async def test_a_refusal_of_the_ingress_is_tried_again(tmp_path, house):
    await refused(tmp_path, house)
    await house.look()
    before = house.hosts()
    house.now += 3600
    await house.look()

    assert ([], [("a.test",)]) == (before, house.hosts())


async def test_a_clock_that_was_ahead_delays_no_damaged_file(tmp_path, house):
    await refused(tmp_path, house)
    house.now -= 30 * 24 * 3600
    await house.look()

    assert [("a.test",)] == house.hosts()
