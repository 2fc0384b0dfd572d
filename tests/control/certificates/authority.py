"""A real certification authority (pebble) with a real name server (knot), on free ports of this machine."""

import base64
import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.ports import free_port
from tests.waiting import wait_for

ZONE = "example.test"
KEY_NAME, KEY = "homeport", base64.b64encode(b"k" * 32).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """The running CA."""

    directory: str
    bundle: Path  # the certificate of its API
    management: str
    http_port: int  # where it looks for HTTP-01
    dns_port: int

    def roots(self) -> str:
        """Return the root certificate that its certificates come from."""
        context = ssl.create_default_context(cafile=str(self.bundle))
        with urllib.request.urlopen(f"{self.management}/roots/0", context=context) as answer:
            return answer.read().decode()


def needed() -> None:
    """Install pebble and knot, or skip the test where apt is not there."""
    if shutil.which("pebble") and Path("/usr/sbin/knotd").exists():
        return
    if shutil.which("apt-get") is None or os.getuid() != 0:
        pytest.skip("pebble and knot are not installed, and this is not root on a Debian")
    subprocess.run(["apt-get", "update", "-q"], check=True)
    install = ["apt-get", "install", "-qy", "--no-install-recommends", "pebble", "knot"]
    subprocess.run(install, check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


@contextlib.contextmanager
def running(folder: Path, http_port: int, *, lifetime_s: int = 7776000) -> Iterator[Authority]:
    """Run both, with nonces that are refused by chance."""
    needed()
    api, management, dns = free_port(), free_port(), free_port()
    ca = trustme.CA()
    own = ca.issue_cert("127.0.0.1")
    own.private_key_pem.write_to_path(folder / "api.key")
    own.cert_chain_pems[0].write_to_path(folder / "api.pem")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    pebble = {
        "listenAddress": f"127.0.0.1:{api}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(folder / "api.pem"),
        "privateKey": str(folder / "api.key"),
        "httpPort": http_port,
        "tlsPort": free_port(),
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
        "domainBlocklist": ["blocked.test"],
        "certificateValidityPeriod": lifetime_s,
        "retryAfter": {"authz": 0, "order": 0},
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": pebble}))
    environ = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "30"}
    command = ["pebble", "-config", str(folder / "pebble.json"), "-dnsserver", f"127.0.0.1:{dns}"]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "pebble.log").open("wb") as log, (folder / "knot.log").open("wb") as knot:
            processes += [
                subprocess.Popen(
                    ["/usr/sbin/knotd", "-c", str(_zone(folder, dns))], stdout=knot, stderr=knot
                ),
                subprocess.Popen(command, env=environ, stdout=log, stderr=log),
            ]
        for port, process in ((dns, processes[0]), (api, processes[1]), (management, processes[1])):
            _listens(port, process)
        yield Authority(
            directory=f"https://127.0.0.1:{api}/dir",
            bundle=folder / "ca.pem",
            management=f"https://127.0.0.1:{management}",
            http_port=http_port,
            dns_port=dns,
        )
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _zone(folder: Path, port: int) -> Path:
    """Write a zone in which every name leads to this machine, and whose key may change it."""
    (folder / "zone").write_text(
        f"$ORIGIN {ZONE}.\n@ 60 SOA ns hostmaster 1 60 60 60 60\n@ 60 NS ns\n@ 60 A 127.0.0.1\n* 60 A 127.0.0.1\n"
        'refused 60 CAA 0 issue "other.example"\n'
    )
    config = folder / "knot.conf"
    config.write_text(
        f"server:\n  rundir: {folder}\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n"
        f"database:\n  storage: {folder}\n"
        f"key:\n  - id: {KEY_NAME}\n    algorithm: hmac-sha256\n    secret: {KEY}\n"
        f"acl:\n  - id: change\n    key: {KEY_NAME}\n    action: update\n"
        f"zone:\n  - domain: {ZONE}\n    file: {folder}/zone\n    acl: change\n    zonefile-load: whole\n    journal-content: changes\n"
    )
    return config


def _listens(port: int, process: "subprocess.Popen[bytes]") -> None:
    def listens() -> bool:
        assert process.poll() is None, f"{process.args} has ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    wait_for(listens, f"{process.args}")
