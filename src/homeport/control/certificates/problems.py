"""The reason why an order failed, in one sentence for the user, and its effect on the next try."""


class OrderFailed(Exception):
    """A certificate was not issued; the host waits, and the message is shown in lists."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        hosts: tuple[str, ...] = (),
        validated: bool = False,
        retry_at: float = 0.0,
        everywhere: bool = False,
    ) -> None:
        """`hosts`: whose fault it is, all of the order by default. `everywhere`: no other order would succeed now."""
        super().__init__(message)
        self.message = message
        self.hint = hint  # what to do
        self.hosts = hosts
        self.validated = validated  # the CA has looked for the challenge, and counts the failure
        self.retry_at = retry_at  # set by the CA for the next try; seconds since the epoch
        self.everywhere = everywhere


#: Kind of an ACME problem (RFC 8555, 6.7) -> the advice for the user.
HINTS = {
    "dns": "add the DNS record that `homeport domain list` names, or wait until it is known everywhere",
    "connection": "let port 80 of this server be reached from the internet",
    "unauthorized": "let the name's DNS record lead to this server alone, and port 80 to homeport",
    "incorrectResponse": "let the name's DNS record lead to this server alone, and port 80 to homeport",
    "caa": "the domain's CAA record must allow this certification authority",
    "rejectedIdentifier": "the certification authority issues nothing for this name: use another domain",
    "rateLimited": "homeport tries again when the certification authority allows it",
    "invalidContact": "set `email` to an address that exists",
    "unsupportedContact": "set `email` to an address that exists",
    "userActionRequired": "open the URL that the message names, and agree to the new terms",
    "externalAccountRequired": "this certification authority needs an account made by hand, which homeport cannot use",
    "accountDoesNotExist": "homeport makes an account there with its next try",
    "serverInternal": "homeport tries again by itself",
    "compound": "see server.log in the home",
}

#: Problems of the account or of the CA: they have nothing to do with the host.
EVERYWHERE = frozenset(
    (
        "serverInternal", "badNonce", "invalidContact", "unsupportedContact",
        "userActionRequired", "externalAccountRequired", "accountDoesNotExist",
    )
)  # fmt: skip


def shown(text: object, size: int = 300) -> str:
    """Return the text of a CA or a DNS server, in one line of printable characters."""
    line = " ".join(str(text).split())
    return "".join(c if c.isprintable() else "?" for c in line)[:size].rstrip(". ")
