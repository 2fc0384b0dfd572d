"""Settings: where each value comes from, and what is derived from it."""

import os
from pathlib import Path

import pytest

from homeport import settings
from homeport.contract.errors import BadRequest


def load(home: Path, **environ: str) -> settings.Settings:
    return settings.load({"HOMEPORT_HOME": str(home), **environ})


def test_a_flag_comes_before_a_variable_before_the_file(home):
    (home / "config.toml").write_text("http_port = 1\nhost = '::1'\nworkspace = 'ada'")
    environ = {"HOMEPORT_HOME": str(home), "HOMEPORT_HTTP_PORT": "2", "HOMEPORT_HOST": "0.0.0.0"}
    loaded = settings.load(environ, http_port=3, host=None)

    assert (3, "0.0.0.0", "ada") == (loaded.http_port, loaded.host, loaded.workspace)
    assert {"host", "http_port", "workspace"} == {*loaded.given}


@pytest.mark.parametrize(
    ("host", "on_loopback", "local_host"),
    [
        ("127.0.0.1", True, "127.0.0.1"),
        ("localhost", True, "127.0.0.1"),
        ("127.1.2.3", True, "127.1.2.3"),
        ("::1", True, "[::1]"),
        ("[::1]", True, "[::1]"),
        ("0:0:0:0:0:0:0:1", True, "[::1]"),
        ("0.0.0.0", False, "127.0.0.1"),
        ("::", False, "[::1]"),
        ("192.0.2.7", False, "192.0.2.7"),
    ],
)
def test_an_address_says_who_reaches_it_and_how_a_url_writes_it(
    home, host, on_loopback, local_host
):
    loaded = load(home, HOMEPORT_HOST=host)

    assert (on_loopback, local_host) == (loaded.on_loopback, loaded.local_host)


def test_a_home_has_one_name_however_it_is_written(home, monkeypatch):
    link = home.parent / "link"
    link.symlink_to(home)
    monkeypatch.chdir(home.parent)

    assert {home} == {load(Path(p)).home for p in (f"{home}/", f"{link}", "home", "link/../home")}


@pytest.mark.parametrize("letter", ["x", "ä"])
@pytest.mark.parametrize("length", [20, 60, 90, 200])
def test_a_socket_has_room_in_its_address(home, letter, length, monkeypatch):
    deep = home / (letter * (length // len(letter.encode())))
    where = load(deep).socket_dir

    assert len(os.fsencode(where / "c" / "ta-0123456789ab.sock")) <= 107
    monkeypatch.setenv("TMPDIR", str(home))
    assert (
        where
        == load(home / (letter * length if letter == "x" else letter * (length // 2))).socket_dir
    )


def test_the_shown_settings_of_a_server_have_no_secret(home):
    shown = load(home, HOMEPORT_TOKEN="s3cret", HOMEPORT_RATE_LIMIT="7").shown()

    assert 7 == shown["rate_limit"]
    assert "s3cret" not in str(shown)


@pytest.mark.parametrize(
    ("environ", "ports", "url"),
    [
        ({}, (4663, 4664), "http://a.localhost:4663"),
        ({"HOMEPORT_TLS": "local"}, (4663, 4664), "https://a.localhost:4664"),
        ({"HOMEPORT_TLS": "files"}, (80, 443), "https://a.localhost"),
        ({"HOMEPORT_TLS": "acme", "HOMEPORT_DOMAIN": "x.org"}, (80, 443), "https://a.localhost"),
        (
            {"HOMEPORT_TLS": "files", "HOMEPORT_HTTP_PORT": "1", "HOMEPORT_HTTPS_PORT": "2"},
            (1, 2),
            "https://a.localhost:2",
        ),
    ],
)
def test_public_certificates_go_with_the_usual_ports(home, environ, ports, url):
    loaded = load(home, **environ)

    assert (ports, url) == ((loaded.http_port, loaded.https_port), loaded.url("a.localhost"))


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"HOMEPORT_TLS": "on"}, "`off`, `acme`, `files` or `local` is needed"),
        ({"HOMEPORT_TLS": "acme"}, "no ACME server gives certificates for `localhost`"),
        ({"HOMEPORT_TLS": "local", "HOMEPORT_HTTPS_PORT": "4663"}, "the same port, 4663"),
        ({"HOMEPORT_DNS": "rfc2136"}, "there is no `dns_server`"),
        ({"HOMEPORT_DNS": "hook"}, "there is no `dns_hook`"),
        ({"HOMEPORT_DNS": "lexicon"}, "there is no `dns_provider`"),
        ({"HOMEPORT_DNS_KEY": "homeport:s3cret!"}, "in Base64"),
        ({"HOMEPORT_DNS_KEY": "md5:homeport:czNjcmV0"}, "HOMEPORT_DNS_KEY is wrong"),
        ({"HOMEPORT_REGION": "a b"}, "HOMEPORT_REGION is 'a b': letters, digits"),
        ({"HOMEPORT_ACME_DIRECTORY": "http://ca.example.com"}, "a URL such as https://"),
        ({"HOMEPORT_EMAIL": "ada"}, "an address such as ada@example.com"),
    ],
)
def test_settings_of_tls_that_cannot_be_are_refused(home, environ, words):
    with pytest.raises(BadRequest) as error:
        load(home, **environ)

    assert words in str(error.value)
    assert "s3cret!" not in str(error.value)


def test_a_tsig_key_has_an_algorithm_and_no_server_tells_it(home):
    loaded = load(home, HOMEPORT_DNS_KEY="homeport:czNjcmV0")

    assert "hmac-sha256:homeport:czNjcmV0" == loaded.dns_key
    assert "czNjcmV0" not in f"{loaded} {loaded.shown()}"


@pytest.mark.parametrize("address", ["10.0.0.1", "10.0.0.1:x", "-x y:1", "ray://10.0.0.1:1"])
def test_a_text_that_no_ray_cluster_can_have_as_its_address_is_refused(home, address):
    with pytest.raises(BadRequest, match="the address of a Ray cluster is needed"):
        load(home, HOMEPORT_RAY=address)


@pytest.mark.parametrize("address", ["10.0.0.1:6379", "ray.example.com:6379", "[::1]:6379", "auto"])
def test_the_address_of_a_ray_cluster_is_taken(home, address):
    assert address == load(home, HOMEPORT_RAY=address).ray


def test_each_machine_has_its_own_sockets_in_a_home_that_several_share(home):
    alone = settings.Settings(home=home)
    shared = settings.Settings(home=home, standby_addresses="10.0.0.1,10.0.0.2")

    assert home / "run" == alone.run_dir
    assert home == shared.run_dir.parent
    assert os.uname().nodename.split(".")[0] in shared.run_dir.name
