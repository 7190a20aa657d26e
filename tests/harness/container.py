"""Runs the command of docs/containers.md in namespaces of its own, as a container runtime does.

The command is process 1 of a new process namespace. Its root can be read-only, except for one folder.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

from sse_threaded.testing.processes import process_table
from tests.harness.django_project import page_block
from tests.harness.server_program import ServerProgram, answers_http
from tests.support import CHECKOUT, free_port, wait_until

# What runs in the new namespaces before the command. Folders that are mounts of their own stay as they are, so
# those for temporary files are made read-only, too.
_READ_ONLY = """
set -e
mount --bind "$DATA" "$DATA"
mountpoint -q /dev/shm || mount -t tmpfs tmpfs /dev/shm
for place in / /tmp /var/tmp; do
    ! mountpoint -q "$place" || mount -o remount,bind,ro "$place"
done
touch "$PWD/written" 2>/dev/null || true  # a test looks for this file
exec "$@"
"""


def command_of_dockerfile() -> list[str]:
    """The command of the image, which must be in the exec form."""
    (command,) = re.findall(r"^CMD (.*)$", page_block("containers.md", "FROM python", "dockerfile"), re.MULTILINE)
    words: list[str] = json.loads(command)
    return words


class Container:
    """The image of the page, unpacked into a folder.

    :param folder: an empty folder.
    :param settings: ``gunicorn.conf.py``; default ``None``: that of the page.
    """

    def __init__(self, folder: Path, settings: str | None = None) -> None:
        self.folder = folder / "app"
        self.data = folder / "data"
        for place in (self.folder, self.data, self.folder / "bin"):
            place.mkdir()
        (self.folder / "app.py").write_text(page_block("containers.md", "def is_alive"))
        (self.folder / "gunicorn.conf.py").write_text(settings or page_block("containers.md", "worker_tmp_dir"))
        gunicorn = self.folder / "bin" / "gunicorn"
        gunicorn.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gunicorn "$@"\n')
        gunicorn.chmod(0o755)
        self.log_url = f"sqlite:///{self.data / 'events.db'}"

    def run(
        self, command: list[str], *, read_only: bool = False, log_url: str | None = None
    ) -> tuple[ServerProgram, str]:
        """Make a server of the command; returns it, not started, and its URL.

        :param command: its last words are those of gunicorn, to which the address is added.
        :param read_only: whether the root is read-only, except for :attr:`data`.
        :param log_url: the log; default ``None``: the SQLite file of the volume.
        """
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        # Where the tests do not run as root, a user namespace lets them make the others.
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        prepare = ["sh", "-c", _READ_ONLY, "sh"] if read_only else []
        unshare = ["unshare", *user, "--fork", "--pid", "--mount", "--mount-proc", "--kill-child", "--"]
        env = {
            **{name: value for name, value in os.environ.items() if name not in ("TMPDIR", "TMP", "TEMP")},
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": os.environ.get("PYTHONPATH", str(CHECKOUT)),
            "EVENTS_URL": log_url or self.log_url,
            "DATA": str(self.data),
            "GUNICORN_CMD_ARGS": f"--bind 127.0.0.1:{port}",
        }
        output = self.folder.parent / f"output-{port}"
        output.mkdir()
        whole = [*unshare, "sh", "-c", f'cd "{self.folder}" && exec "$@"', "sh", *prepare, *command]
        return ServerProgram("gunicorn", whole, output, answers_http(f"{url}/livez"), env=env), url


def process_1(server: ServerProgram) -> int:
    """The process id, in the namespace of the tests, of the container's process 1.

    :raises AssertionError: the only child of ``unshare`` is not process 1 of its namespace.
    """
    wait_until(lambda: any(each.parent == server.pid for each in process_table()), message="the first process")
    (pid,) = [each.pid for each in process_table() if each.parent == server.pid]
    (inside,) = re.findall(r"^NSpid:.*\t(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert inside == "1", f"process {pid} is process {inside} of its namespace"
    return pid
