"""Returns what the settings say about DNS-01."""

from homeport.control.certificates.dns import Records
from homeport.settings import Settings


def records(settings: Settings) -> Records | None:
    """Return what sets TXT records; None without `dns`."""
    if settings.dns == "rfc2136":
        from homeport.control.certificates.dns.rfc2136 import Rfc2136

        host, port = settings.dns_server, "53"
        if host.endswith(tuple("0123456789")) and host.rpartition(":")[0]:
            host, _, port = host.rpartition(":")
        algorithm, key_name, secret = [*settings.dns_key.split(":", 2), "", "", ""][:3]
        return Rfc2136(
            host.strip("[]"),
            port=int(port),
            key_name=key_name,
            secret=secret,
            algorithm=algorithm or "hmac-sha256",
            zone=settings.dns_zone,
        )
    if settings.dns == "hook":
        from homeport.control.certificates.dns.hook import Hook

        return Hook(settings.dns_hook)
    if settings.dns == "lexicon":
        from homeport.control.certificates.dns.lexicon import Lexicon

        return Lexicon(settings.dns_provider)
    return None
