"""The real Caddy with deploy/Caddyfile, in which only addresses, paths and the certificate are others.

with Caddy(directory, "127.0.0.1:3000") as caddy:
    curl("--cacert", str(caddy.certificate), caddy.url + "/healthz")
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from sse_threaded.testing.processes import ChildProcess
from tests.harness.nginx_server import UPSTREAM, certificate
from tests.support import ROOT, missing, reserved_port, wait_until

CONFIG = ROOT / "deploy" / "Caddyfile"

_SECONDS = 30


class Caddy:
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
        self._directory = Path(tempfile.mkdtemp(prefix="caddy-", dir=directory))
        self._reserved = reserved_port()
        self.port: int = self._reserved.getsockname()[1]
        self.certificate, key = certificate(self._directory)
        config = self._directory / "Caddyfile"
        self._arguments = [program, "--config", str(config), "--adapter", "caddyfile"]
        self._env = {**os.environ, "HOME": str(self._directory), "XDG_DATA_HOME": str(self._directory)}
        self._child: ChildProcess | None = None
        site = f"https://localhost:{self.port} https://board.example:{self.port}"
        addresses = {
            "\n{\n": "\n{\n\tadmin off\n\tauto_https disable_redirects\n",
            "\nboard.example {\n": f"\n{site} {{\n\tbind 127.0.0.1\n\ttls {self.certificate} {key}\n",
            UPSTREAM.replace("unix:", "unix/"): upstream,
        }
        text = CONFIG.read_text(encoding="utf-8")
        for old, new in [*addresses.items(), *(changes or {}).items()]:
            assert old in text, f"deploy/Caddyfile has no {old!r}"
            text = text.replace(old, new)
        config.write_text(text, encoding="utf-8")

    @property
    def url(self) -> str:
        """``https://localhost:port``, without a slash at the end."""
        return f"https://localhost:{self.port}"

    def output(self) -> str:
        """What it has printed."""
        return (self._directory / "output").read_text(errors="replace")

    def check(self) -> subprocess.CompletedProcess[str]:
        """``caddy validate``."""
        program, *arguments = self._arguments
        command = [program, "validate", *arguments]
        return subprocess.run(
            command, env=self._env, capture_output=True, text=True, timeout=_SECONDS, check=False
        )

    def __enter__(self) -> Caddy:
        program, *arguments = self._arguments
        with (self._directory / "output").open("wb") as output:
            command = [program, "run", *arguments]
            self._child = ChildProcess(command, output=output, env=self._env, cwd=self._directory)
        try:
            wait_until(self._answers, timeout=_SECONDS, message="caddy to answer")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._child is not None
        self._child.kill()
        self._reserved.close()

    def _answers(self) -> bool:
        assert self._child is not None
        if self._child.poll() is not None:
            raise AssertionError(f"caddy has ended: {self.output()}")
        trust = ["--cacert", str(self.certificate), "-sSf", "-o", os.devnull]
        command = ["curl", *trust, self.url + "/healthz"]
        return not subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode
