"""A download for ADD, made with the network of the node's machine."""

import http.server
import ipaddress

import pytest

from homeport.contract.errors import ImageError
from homeport.node.images.rooted import download
from tests import web


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with a file, or leads elsewhere, and keeps the paths that it was asked for."""

    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(302 if self.path == "/leads" else 200)
        if self.path == "/leads":
            self.send_header("Location", self.server.elsewhere)
        self.end_headers()
        self.wfile.write(b"a file")

    def log_message(self, *_):
        pass


@pytest.fixture
def sites(monkeypatch):
    """A web server of another machine, and the one that gives this machine its credentials."""
    monkeypatch.setattr(download, "CREDENTIALS", (ipaddress.ip_network("127.0.0.2/32"),))
    servers = [
        http.server.ThreadingHTTPServer((f"127.0.0.{number}", 0), Handler) for number in (1, 2)
    ]
    for server in servers:
        server.asked, server.url = [], "http://{}:{}".format(*server.server_address)
    servers[0].elsewhere = f"{servers[1].url}/keys"
    with web.serving(servers[0]), web.serving(servers[1]):
        yield servers


async def test_a_file_is_written_whole_if_it_is_not_too_large(sites, tmp_path):
    url = f"{sites[0].url}/file"
    await download.fetch(url, tmp_path / "file", "")

    assert "a file" == (tmp_path / "file").read_text()
    with pytest.raises(ImageError, match="larger than 3 bytes"):
        await download.fetch(url, tmp_path / "other", "", max_bytes=3)


async def test_nothing_is_asked_where_a_cloud_gives_a_machine_its_credentials(sites, tmp_path):
    site, keys = sites
    for url in (f"{keys.url}/keys", f"{site.url}/leads"):
        with pytest.raises(ImageError, match="clouds give a machine its credentials there"):
            await download.fetch(url, tmp_path / "file", "")

    assert (["/leads"], []) == (site.asked, keys.asked)
    assert not (tmp_path / "file").exists()


class Breaking(http.server.BaseHTTPRequestHandler):
    """Sends half of a file, or something that is no answer at all, and closes the connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/nonsense":
            self.wfile.write(b"nonsense\r\n\r\n")
            self.close_connection = True
            return
        self.send_response(200)
        if self.path == "/chunks":
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", "12")
        self.end_headers()
        self.wfile.write(b"c\r\na half" if self.path == "/chunks" else b"a half")
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("path", ["length", "chunks", "nonsense"])
async def test_a_download_that_breaks_off_or_is_no_http_is_an_error(path, tmp_path):
    with web.served(Breaking) as server:
        url = "http://{}:{}/{}".format(*server.server_address, path)
        with pytest.raises(ImageError, match="cannot be downloaded"):
            await download.fetch(url, tmp_path / "file", "")


@pytest.mark.parametrize(
    ("host", "holds"),
    [
        ("169.254.169.254", True),
        ("169.254.170.2", True),
        ("::ffff:169.254.169.254", True),
        ("fd00:ec2::254", True),
        ("fe80::1%eth0", False),
        ("127.0.0.1", False),
        ("93.184.216.34", False),
    ],
)
def test_the_refused_addresses_are_those_of_the_firewall(host, holds):
    assert holds == download.holds_credentials(host)
