"""Certificates of hosts."""

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The certificate of one host, or what keeps it from having one."""

    host: str
    source: str  # `files`, or `acme` or `local` with a colon and a word for the CA
    state: str  # `valid`, `ordering`, `waiting`, `failed` or `unwanted`
    name: str = ""  # of the certificate, which several hosts may share; empty: there is none
    serial: str = ""  # in hexadecimal
    valid_until: float | None = None
    renew_at: float | None = None  # when it is renewed
    error: str = ""  # why the last order failed, or why it waits
    hint: str = ""  # what to do about that
    next_try: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateList:
    """The certificates of all hosts that are wanted, and those that are kept for a while."""

    certificates: tuple[Certificate, ...]
