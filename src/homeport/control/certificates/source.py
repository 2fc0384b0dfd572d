"""Where certificates come from: the one interface of an ACME server, of a local CA and of the user's files."""

from typing import Protocol

from homeport.control.certificates.situation import Decision, Situation


class Source(Protocol):
    """Says which certificates are due, and makes or reads each one."""

    #: True if a certificate takes neither time nor a stranger's help: a host gets its own before it answers, and
    #: nothing is counted for limits.
    at_once: bool

    @property
    def name(self) -> str:
        """Return the name for lists; certificates of a source with another name are replaced: `acme:1a2b3c4d`,
        `files`.
        """

    async def open(self) -> None:
        """Get ready; a `Failure` ends the server's start."""

    async def decide(self, situation: Situation) -> Decision:
        """Return what to do now."""

    def covering(self, host: str) -> tuple[str, ...]:
        """Return the names of the certificate that a host needs."""

    def refusal(self) -> str:
        """Return why no certificate can be ordered; empty if one can be ordered."""

    async def issue(self, name: str, hosts: tuple[str, ...]) -> bytes:
        """Return a private key and the certificate's chain in PEM; `OrderFailed` says what to do.

        `name` names the order: the next call with it continues it, and gives the same certificate until `forget`.
        """

    def forget(self, name: str) -> None:
        """Delete the files of an order, because its certificate is in use."""
