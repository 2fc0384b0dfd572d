"""`homeport trust`: says how this machine's programs and browsers accept the certificates of `tls = local`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from homeport.cli import options, output
from homeport.contract.errors import BadRequest, NotFound, StorageError

_TEXT = """The local CA of this homeport is {path}
It can sign for names below {domain} and names that nobody owns, such as `.localhost` and `.test`, and for no other.

Debian, Ubuntu
  sudo install -m 644 {quoted} /usr/local/share/ca-certificates/homeport.crt
  sudo update-ca-certificates
Fedora, RHEL
  sudo install -m 644 {quoted} /etc/pki/ca-trust/source/anchors/homeport.pem
  sudo update-ca-trust
macOS
  sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {quoted}
Chromium on Linux (libnss3-tools)
  mkdir -p $HOME/.pki/nssdb
  certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n homeport -i {quoted}
Firefox
  Settings > Privacy & Security > View Certificates > Authorities > Import, and choose the file
One command, without installing it
  curl --cacert {quoted} {url}
  SSL_CERT_FILE={quoted} python client.py

Another machine needs the certificate alone: `homeport trust --pem > homeport.pem`"""


def trust(
    pem: Annotated[bool, typer.Option("--pem", help="Print the CA's certificate.")] = False,
) -> None:
    """Say how to install the local CA of `tls = local`, or print its certificate."""
    settings = options.load()
    path = settings.local_ca
    text = _read(path, tls=settings.tls)
    if pem:
        output.out().file.write(text)
        return
    instructions = _TEXT.format(
        path=path,
        quoted=shlex.quote(str(path)),
        domain=f"`.{settings.domain}`",
        url=settings.url(f"{settings.workspace}--hello.{settings.domain}"),
    )
    output.out().file.write(f"{instructions}\n")


def _read(path: Path, *, tls: str) -> str:
    try:
        return path.read_text("ascii")
    except FileNotFoundError:
        if tls != "local":
            raise BadRequest(
                f"there is no local CA: `tls` is `{tls}`",
                hint='set HOMEPORT_TLS=local, or `tls = "local"` in config.toml, and run `homeport up`',
            ) from None
        raise NotFound(
            "there is no local CA yet", hint="the server makes it: run `homeport up`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path} cannot be read: {error}") from None
