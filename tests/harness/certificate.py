"""A certificate of one's own, for servers on this machine."""

from __future__ import annotations

import shutil
import subprocess
from datetime import datetime
from pathlib import Path

from tests.support import missing

_SECONDS = 30

# For a certificate that signs itself and has other times. Only "openssl ca" can set them.
_AUTHORITY = """
[ca]
default_ca = own
[own]
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = names
[any]
commonName = supplied
[names]
subjectAltName = {names}
"""


def certificate(
    directory: Path,
    name: str = "localhost",
    *,
    begin: datetime | None = None,
    end: datetime | None = None,
) -> tuple[Path, Path]:
    """Make a certificate for a name and 127.0.0.1, and its key.

    :param directory: where the files are made.
    :param name: default ``localhost``. For another name the certificate is not for 127.0.0.1.
    :param begin: since when it is valid; default: now.
    :param end: until when; default: two days from now. Give both or neither.
    """
    if shutil.which("openssl") is None:
        missing("openssl (apt-get install openssl)")
    chain, key = directory / "fullchain.pem", directory / "privkey.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key)]
    names = f"DNS:{name},IP:127.0.0.1" if name == "localhost" else f"DNS:{name}"
    subject = ["-subj", f"/CN={name}"]
    if begin is None or end is None:
        extension = ["-addext", f"subjectAltName={names}"]
        _openssl("req", "-x509", *kind, "-days", "2", *subject, *extension, "-out", str(chain))
        return chain, key
    request, config = directory / "request.pem", directory / "authority.cnf"
    (directory / "index.txt").touch()
    config.write_text(_AUTHORITY.format(folder=directory, names=names), encoding="utf-8")
    _openssl("req", "-new", *kind, *subject, "-out", str(request))
    times = ["-startdate", f"{begin:%Y%m%d%H%M%SZ}", "-enddate", f"{end:%Y%m%d%H%M%SZ}"]
    itself = ["-selfsign", "-keyfile", str(key), "-config", str(config)]
    _openssl("ca", "-batch", "-notext", *itself, *times, "-in", str(request), "-out", str(chain))
    return chain, key


def _openssl(*args: str) -> None:
    subprocess.run(["openssl", *args], check=True, capture_output=True, timeout=_SECONDS)
