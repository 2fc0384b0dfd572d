"""Which URL of an endpoint a program can use."""

import socket

import pytest

from homeport.contract import urls

LOCAL = "http://127.0.0.1:4664"


@pytest.fixture(autouse=True)
def _names(monkeypatch):
    """The resolver knows `known.localhost` alone."""
    urls._is_known.cache_clear()

    def getaddrinfo(host, _port):
        if host != "known.localhost":
            raise socket.gaierror(-2, "Name or service not known")
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield
    urls._is_known.cache_clear()


@pytest.mark.parametrize(
    ("url", "local_url", "used"),
    [
        ("http://known.localhost:4663", LOCAL, "http://known.localhost:4663"),
        ("http://ann--shop-web.localhost:4663", LOCAL, LOCAL),
        ("https://ann--shop-web.localhost:4663/path", LOCAL, LOCAL),
        # Another machine's names and addresses are not this machine's.
        ("https://ann--shop-web.example.com", LOCAL, "https://ann--shop-web.example.com"),
        ("http://notlocalhost:1", LOCAL, "http://notlocalhost:1"),
        # A server of an earlier version does not say the local one.
        ("http://ann--shop-web.localhost:4663", "", "http://ann--shop-web.localhost:4663"),
        ("", "", ""),
    ],
)
def test_the_local_url_is_used_where_the_resolver_does_not_know_the_host(url, local_url, used):
    assert urls.usable(url, local_url) == used
