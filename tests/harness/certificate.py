"""A certificate of one's own, for servers on this machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support import missing

_SECONDS = 30


def certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for localhost and 127.0.0.1, and its key."""
    if shutil.which("openssl") is None:
        missing("openssl (apt-get install openssl)")
    chain, key = directory / "fullchain.pem", directory / "privkey.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", *kind, *names, "-out", str(chain), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
    return chain, key
