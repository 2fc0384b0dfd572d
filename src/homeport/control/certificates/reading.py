"""Reads a certificate into the row that is kept of it."""

from homeport.contract.hosts import is_name
from homeport.control.certificates.problems import OrderFailed, shown
from homeport.state.certificates import CertificateRow


def read(name: str, pem: bytes, hosts: tuple[str, ...], source: str) -> CertificateRow:
    """Return the row of a certificate; `OrderFailed` if it is not for these hosts. No host: for those that it names."""
    from cryptography import x509  # a server without TLS has no use for it

    # Faults of a certificate that are no `ValueError` of the library.
    unusual = (x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
    try:
        leaf, *_ = x509.load_pem_x509_certificates(pem)
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        named = [host.lower() for host in extension.value.get_values_for_type(x509.DNSName)]
    except (ValueError, *unusual) as error:
        raise OrderFailed(f"the certificate cannot be read: {shown(error)}") from None
    except x509.ExtensionNotFound:
        raise OrderFailed("the certificate has no names (subjectAltName)") from None
    if not set(hosts) <= set(named):
        raise OrderFailed("the certificate is not for all hosts of the order")
    return CertificateRow(
        name=name,
        hosts=hosts or tuple(host for host in dict.fromkeys(named) if is_name(host)),
        source=source,
        serial=f"{leaf.serial_number:x}",
        not_before=leaf.not_valid_before_utc.timestamp(),
        not_after=leaf.not_valid_after_utc.timestamp(),
    )
