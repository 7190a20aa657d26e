"""The real Caddy with deploy/Caddyfile, in which only addresses, paths and the certificate are others.

with Caddy(directory, "127.0.0.1:3000") as caddy:
    curl("--cacert", str(caddy.certificate), caddy.url + "/healthz")
"""

from __future__ import annotations

import http.client
import os
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.harness.certificate import certificate
from tests.harness.nginx_server import UPSTREAM
from tests.harness.server_program import ServerProgram, replaced
from tests.support import ROOT, missing

CONFIG = ROOT / "deploy" / "Caddyfile"

_SECONDS = 30


class Caddy(ServerProgram):
    """Caddy until the ``with`` is left, on a free port of 127.0.0.1.

    :param directory: where it makes a directory for its files.
    :param upstream: where gunicorn listens, ``127.0.0.1:port`` or ``unix//path``.
    :param changes: further text of the file, and what takes its place.
    :ivar port: that of HTTPS, known from the start.
    :ivar certificate: the file that a client must trust.
    """

    def __init__(self, directory: Path, upstream: str, *, changes: Mapping[str, str] | None = None) -> None:
        program = shutil.which("caddy")
        if program is None:
            missing("caddy (apt-get install caddy)")
        directory = Path(tempfile.mkdtemp(prefix="caddy-", dir=directory))
        config = directory / "Caddyfile"
        arguments = ["--config", str(config), "--adapter", "caddyfile"]
        env = {**os.environ, "HOME": str(directory), "XDG_DATA_HOME": str(directory)}
        super().__init__("caddy", [program, "run", *arguments], directory, env=env)
        self._check = [program, "validate", *arguments]
        self.port = self.reserve_port()
        self.certificate, key = certificate(directory)
        self._context = ssl.create_default_context(cafile=str(self.certificate))
        site = f"https://localhost:{self.port} https://board.example:{self.port}"
        addresses = {
            # Otherwise Caddy, run as root, adds a certificate of its own to those that the whole machine trusts.
            # And it asks the authorities of the Internet for one for board.example.
            "\n{\n": "\n{\n\tadmin off\n\tauto_https off\n\tskip_install_trust\n",
            "\nboard.example {\n": f"\n{site} {{\n\tbind 127.0.0.1\n\ttls {self.certificate} {key}\n",
            UPSTREAM.replace("unix:", "unix/"): upstream,
        }
        config.write_text(replaced(CONFIG, {**addresses, **(changes or {})}), encoding="utf-8")

    @property
    def url(self) -> str:
        """``https://localhost:port``, without a slash at the end."""
        return f"https://localhost:{self.port}"

    def check(self) -> subprocess.CompletedProcess[str]:
        """``caddy validate``."""
        return subprocess.run(
            self._check, env=self._env, capture_output=True, text=True, timeout=_SECONDS, check=False
        )

    def is_answering(self) -> bool:
        """Whether the app behind it answers."""
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=_SECONDS, context=self._context)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
