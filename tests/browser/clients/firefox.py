"""A headless Firefox for tests, through its own remote protocol (Marionette): Debian has no geckodriver.

    with firefox() as browser:
        browser.get(server.url)

A message is its length in decimal, a colon, and JSON: ``[0, id, command, parameters]`` to the browser, and
``[1, id, error, result]`` from it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sse_threaded.testing.processes import ChildProcess
from tests.support import missing, wait_until

# Port 0: Firefox takes a free one and writes it into the profile. The rest keeps it from talking to anybody else.
_PREFERENCES = {
    "marionette.port": 0,
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.safebrowsing.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.getAddons.cache.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}

_PORT_FILE = "MarionetteActivePort"

# Seconds to start, and for an answer.
_TIMEOUT = 60


class Firefox:
    """What tests need of selenium's interface: ``get`` and ``execute_script``."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _TIMEOUT)
        self._file: IO[bytes] = self._socket.makefile("rb")
        self._read()  # its greeting
        self._last = 0
        self.command("WebDriver:NewSession", {})

    def get(self, url: str) -> None:
        """Open a page and wait until it has loaded."""
        self.command("WebDriver:Navigate", {"url": url})

    def execute_script(self, source: str) -> Any:
        """Run the body of a function in the page; returns its value."""
        return self.command("WebDriver:ExecuteScript", {"script": source, "args": []})["value"]

    def command(self, name: str, parameters: dict[str, Any]) -> Any:
        """Send a command and return its result.

        :raises AssertionError: Firefox answers with an error.
        """
        self._last += 1
        text = json.dumps([0, self._last, name, parameters]).encode()
        self._socket.sendall(b"%d:%b" % (len(text), text))
        _, number, error, result = self._read()
        assert number == self._last, number
        if error is not None:
            raise AssertionError(f"{name}: {error}")
        return result

    def close(self) -> None:
        """Leave it; it goes on to run."""
        self._file.close()
        self._socket.close()

    def _read(self) -> Any:
        digits = b""
        while (byte := self._file.read(1)) != b":":
            if not byte:
                raise AssertionError("Firefox has closed the connection")
            digits += byte
        return json.loads(self._file.read(int(digits)))


@contextmanager
def firefox(preferences: Mapping[str, Any] | None = None) -> Iterator[Firefox]:
    """A browser with an empty profile; it ends with the block. Where it is missing, the test is skipped.

    :param preferences: further ones; default none.
    """
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        missing("Firefox (apt-get install firefox-esr)")
    directory = tempfile.TemporaryDirectory(prefix="sse_threaded-", ignore_cleanup_errors=True)
    with directory as profile, tempfile.TemporaryFile() as output:
        chosen = {**_PREFERENCES, **(preferences or {})}
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in chosen.items()]
        Path(profile, "user.js").write_text("".join(lines), encoding="utf-8")
        command = [program, "--headless", "--no-remote", "--marionette", "--profile", profile]
        command.append("--remote-allow-system-access")  # a test asks for the process of a tab
        # Its home, too, is the profile: it would look there for others.
        process = ChildProcess(
            command,
            output=output,
            env={**os.environ, "HOME": profile, "MOZ_CRASHREPORTER_DISABLE": "1"},
            cwd=profile,
        )
        try:
            browser = Firefox(_port(process, Path(profile, _PORT_FILE), output))
            try:
                yield browser
            finally:
                browser.close()
        finally:
            process.kill()


def _port(process: ChildProcess, file: Path, output: IO[bytes]) -> int:
    def is_there() -> bool:
        if process.poll() is not None:
            output.seek(0)
            raise AssertionError(f"Firefox has ended:\n{output.read().decode(errors='replace')}")
        return file.exists() and file.read_text(encoding="ascii").strip().isdigit()

    wait_until(is_there, timeout=_TIMEOUT, message="Firefox's port")
    return int(file.read_text(encoding="ascii"))
