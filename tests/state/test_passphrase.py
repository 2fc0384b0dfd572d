"""What opens everything is in a backup, under a passphrase."""

import gzip

import pytest

from homeport.contract.errors import BadRequest
from homeport.settings import Settings
from homeport.state import archive, backup, passphrase
from tests.state.test_backup import files_of, fill, look, rewritten

PASSPHRASE = "a long passphrase, and ü"


@pytest.fixture
def cheap(monkeypatch):
    """Make scrypt cheap: what it costs is no matter of these tests."""
    monkeypatch.setattr(passphrase.Lock, "new", lambda: passphrase.Lock(salt="ab" * 16, n=2**4))


@pytest.fixture
async def locked(cheap, tmp_path):
    """A home with certificates and a backup of it that has a passphrase."""
    settings = Settings(home=tmp_path / "home")
    await fill(settings)
    (settings.home / "config.toml").write_text('token = "t0psecret"\n')
    (settings.home / "certificates").mkdir()
    (settings.home / "acme/account").mkdir(parents=True)
    (settings.home / "acme/account/key.pem").write_text("an account's key")
    (settings.home / "certificates/a.example.pem").write_text("a private key")
    settings.local_ca.parent.mkdir()
    settings.local_ca.write_text("the certificate of a local CA")
    (settings.local_ca.parent / "ca.key").write_text("the key of a local CA")
    file = tmp_path / "locked"
    backup.make(settings, file, force=False, passphrase=PASSPHRASE)
    return settings, file


async def test_the_keys_that_open_everything_are_in_a_backup_and_readable_only_by_the_passphrase(
    locked, tmp_path
):
    settings, file = locked
    other = Settings(home=tmp_path / "other")
    plain = gzip.decompress(file.read_bytes())
    backup.restore(other, file, force=False, passphrase=PASSPHRASE)

    for secret in (
        (settings.home / "vault.key").read_bytes(),
        b"a private key",
        b"t0psecret",
        b"account's",
        b"of a local CA",
    ):
        assert secret not in plain
    assert (await look(settings)) == (await look(other))
    for name in (
        "vault.key",
        "config.toml",
        "certificates/a.example.pem",
        "acme/account/key.pem",
        settings.local_ca.relative_to(settings.home),
        settings.local_ca.relative_to(settings.home).with_name("ca.key"),
    ):
        assert (settings.home / name).read_bytes() == (other.home / name).read_bytes()
        assert 0o600 == (other.home / name).stat().st_mode & 0o777
    assert archive.has_passphrase(file)


async def test_a_wrong_passphrase_says_so_and_changes_nothing(locked, tmp_path):
    _, file = locked
    other = Settings(home=tmp_path / "other")
    await fill(other, "mine")
    before = files_of(other.home)
    with pytest.raises(BadRequest, match="the passphrase is wrong"):
        backup.restore(other, file, force=True, passphrase=PASSPHRASE + "!")
    with pytest.raises(BadRequest, match="the backup has a passphrase"):
        backup.restore(other, file, force=True)
    with pytest.raises(BadRequest, match="too short"):
        backup.make(other, tmp_path / "x", force=False, passphrase="short")

    assert before == files_of(other.home)


async def test_nobody_changes_a_part_without_the_passphrase(locked, tmp_path):
    settings, file = locked
    content = await look(settings)
    forged = tmp_path / "forged"
    rewritten(
        file, forged, lambda n, c: None if n.startswith("blobs/") else [(n, c)], resigned=True
    )
    with pytest.raises(BadRequest, match="somebody without the passphrase"):
        backup.restore(settings, forged, force=True, passphrase=PASSPHRASE)

    assert content == await look(settings)


async def test_a_file_whose_passphrase_was_taken_away_is_refused_if_one_is_given(tmp_path):
    settings = Settings(home=tmp_path / "home")
    await fill(settings)
    content, before = await look(settings), files_of(settings.home)
    await fill(Settings(home=tmp_path / "mallory"), "evil")
    forged = tmp_path / "forged"
    backup.make(Settings(home=tmp_path / "mallory"), forged, force=False)
    for use in (
        lambda: backup.restore(settings, forged, force=True, passphrase=PASSPHRASE),
        lambda: backup.check(forged, settings.home, passphrase=PASSPHRASE),
    ):
        with pytest.raises(BadRequest, match="the backup has no passphrase") as caught:
            use()
        assert "nothing has been changed" in caught.value.hint

    assert before == files_of(settings.home)
    assert content == await look(settings)


def test_the_costs_of_scrypt_are_those_that_owasp_names():
    lock = passphrase.Lock.new()
    keys = lock.keys("one")

    assert (2**17, 8, 1) == (lock.n, lock.r, lock.p)
    assert b"text" == passphrase.Lock.read(lock.as_dict()).keys("one").open(keys.seal(b"text"))


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 2**30},
        {"n": 2**20, "r": 9},
        {"n": 3},
        {"n": 0},
        {"r": 0},
        {"r": -8},
        {"p": 2},
        {"p": 2**20},
        {"salt": ""},
        {"salt": "ab" * 15},
        {"salt": "ab" * 2**20},
        {"salt": "no hex"},
    ],
    ids=str,
)
def test_a_file_cannot_choose_what_a_try_costs(changes):
    """Whoever stores the backup could make a restore take all memory, or take for ever."""
    with pytest.raises(ValueError):
        passphrase.Lock.read({**passphrase.Lock.new().as_dict(), **changes})
