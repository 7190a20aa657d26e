"""The real nginx with deploy/nginx.conf, in which only addresses, paths and the certificate are others.

with Nginx(directory, "127.0.0.1:3000") as nginx:
    curl("--cacert", str(nginx.certificate), nginx.url + "/healthz")
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sse_threaded.testing.processes import process_table
from tests.harness.certificate import certificate
from tests.harness.server_program import ServerProgram, replaced
from tests.support import ROOT, missing

CONFIG = ROOT / "deploy" / "nginx.conf"

# What the file names on the machine it is for.
UPSTREAM = "unix:/run/sse-threaded.sock"

# What nginx keeps files of for a while, each in a directory of its own.
_KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")

_SECONDS = 30


class Nginx(ServerProgram):
    """nginx until the ``with`` is left, on two free ports of 127.0.0.1.

    :param directory: where it makes a directory for its files.
    :param upstreams: where gunicorn listens, ``127.0.0.1:port`` or ``unix:/path``; several for several hosts.
    :param changes: further text of the file, and what takes its place.
    :ivar port: that of HTTPS, known from the start; ``plain_port`` that of HTTP.
    :ivar certificate: the file that a client must trust.
    """

    def __init__(self, directory: Path, *upstreams: str, changes: Mapping[str, str] | None = None) -> None:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
        if program is None:
            missing("nginx (apt-get install nginx)")
        directory = Path(tempfile.mkdtemp(prefix="nginx-", dir=directory))
        self.config = directory / "nginx.conf"
        self._program = [program, "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(self.config)]
        super().__init__("nginx", [*self._program, "-g", "daemon off;"], directory)
        self.port, self.plain_port = self.reserve_port(), self.reserve_port()
        self.certificate, key = certificate(directory)
        addresses = {
            "user www-data;": "user root;" if os.geteuid() == 0 else "",
            "/run/nginx.pid": f"{directory}/nginx.pid",
            "/var/log/nginx": str(directory),
            "/etc/ssl/board.example/fullchain.pem": str(self.certificate),
            "/etc/ssl/board.example/privkey.pem": str(key),
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "listen 443 ": f"listen 127.0.0.1:{self.port} ",
            "listen [::]:80;": "",
            "listen [::]:443 ssl http2 backlog=4096;": "",
            "board.example": "localhost",
            "https://$host$": f"https://$host:{self.port}$",
            f"server {UPSTREAM} max_fails=0;": "".join(f"server {name} max_fails=0;" for name in upstreams),
            "http {\n": "http {\n" + "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in _KINDS),
        }
        self.config.write_text(replaced(CONFIG, {**addresses, **(changes or {})}), encoding="utf-8")

    @property
    def url(self) -> str:
        """``https://localhost:port``, without a slash at the end."""
        return f"https://localhost:{self.port}"

    def worker_pids(self) -> set[int]:
        """The process ids of those who serve."""
        return {process.pid for process in process_table() if process.parent == self.pid}

    def check(self) -> subprocess.CompletedProcess[str]:
        """``nginx -t``."""
        command = [*self._program, "-t"]
        return subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)

    def reload(self) -> None:
        """Have it read its file again in new processes; the old ones serve what they have to its end."""
        self.signal(signal.SIGHUP)

    def output(self) -> str:
        """What it has printed, and its log of errors."""
        errors = self.config.with_name("error.log")
        return super().output() + (errors.read_text(errors="replace") if errors.exists() else "")

    def is_answering(self) -> bool:
        """Whether it takes connections."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True
