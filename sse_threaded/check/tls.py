"""The TLS handshake of a server: its certificate, and the protocol that it chooses."""

from __future__ import annotations

import socket
import ssl
import time

from .errors import CannotCheck
from .exchange import CONNECT_SECONDS
from .observations import TLS
from .target import Target

# The numbers of OpenSSL's errors (openssl-verification-options(1)); Python has no names for them.
_FAULTS = {
    9: "certificate-expired",  # not yet valid
    10: "certificate-expired",
    62: "certificate-name",
    64: "certificate-name",  # of an IP address
}


def client_context(authorities: str | None, *protocols: str) -> ssl.SSLContext:
    """Return a context that verifies certificates as browsers do.

    :param authorities: a file with certificates to trust, beside those of the system; ``None`` for no other.
    :param protocols: the protocols to offer, the best first (ALPN).
    :raises CannotCheck: the file cannot be read, or has no certificate.
    """
    context = ssl.create_default_context()
    if authorities is not None:
        try:
            context.load_verify_locations(authorities)
        except OSError as error:
            raise CannotCheck(f"--cacert {authorities}: {error.strerror or error}; give a file in PEM") from None
    context.set_alpn_protocols(list(protocols))
    return context


def look(target: Target, authorities: str | None) -> TLS:
    """Make a handshake as a browser does, and close the connection.

    :param target: the server.
    :param authorities: see :func:`client_context`.
    :raises CannotCheck: no connection is possible.
    """
    context = client_context(authorities, "h2", "http/1.1")
    try:
        plain = socket.create_connection((target.host, target.port), CONNECT_SECONDS)
    except (OSError, UnicodeError) as error:
        raise CannotCheck(f"{target}: no connection ({error})") from None
    try:
        with plain, context.wrap_socket(plain, server_hostname=target.host) as wrapped:
            found = wrapped.getpeercert() or {}
            return TLS(
                alpn=wrapped.selected_alpn_protocol(),
                not_before=ssl.cert_time_to_seconds(str(found["notBefore"])),
                not_after=ssl.cert_time_to_seconds(str(found["notAfter"])),
                now=time.time(),
            )
    except ssl.SSLCertVerificationError as error:
        fault = _FAULTS.get(error.verify_code, "certificate-untrusted")
        return TLS(fault=fault, detail=error.verify_message)
    except OSError as error:  # ssl.SSLError is one
        return TLS(fault="tls", detail=getattr(error, "reason", None) or str(error) or type(error).__name__)
