"""Finds the CPythons of this machine, also those of pyenv that are not on PATH."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

# The last one is tried where it is found, and is never what runs by default.
SUPPORTED = ("3.10", "3.11", "3.12", "3.13", "3.14")
TRIED = ("3.15",)

_ANSWER_SECONDS = 30

# Prints the real path of a complete CPython with a global interpreter lock; of a virtual environment, that of the
# Python from which it was made. Debian's has no ensurepip until python3-venv is installed.
_ASK = """
import os, sys, sysconfig
import ensurepip, sqlite3, ssl, venv
if sys.implementation.name != "cpython" or "%d.%d" % sys.version_info[:2] != sys.argv[1]:
    sys.exit(1)
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    sys.exit(1)
print(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))
"""


def find_pythons() -> dict[str, str]:
    """The path of a CPython of each version that is found, the newest supported one first."""
    found = {version: find_python(version) for version in (*reversed(SUPPORTED), *TRIED)}
    return {version: path for version, path in found.items() if path}


def find_python(version: str) -> str | None:
    """The path of a CPython of this version, such as "3.12"."""
    for folder in dict.fromkeys(_folders()):
        program = folder / f"python{version}"
        if os.access(program, os.X_OK):
            try:
                # Outside of the checkout: a shim of pyenv would obey a .python-version there.
                done = subprocess.run(
                    [program, "-c", _ASK, version],
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=_ANSWER_SECONDS,
                    check=True,
                )
            except (OSError, subprocess.SubprocessError):
                continue
            return done.stdout.strip()
    return None


def _folders() -> Iterator[Path]:
    """Folders that may hold a Python, the preferred ones first."""
    path = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    yield from path
    for root in _pyenv_roots(path):
        yield from sorted(root.glob("versions/*/bin"))
    yield from (Path("/usr/bin"), Path("/usr/local/bin"))
    for depth in range(1, 5):
        yield from sorted(Path("/opt").glob("*/" * depth + "bin"))
    home = os.environ.get("HOME")
    if home:
        yield Path(home, ".local/bin")
        yield from sorted(Path(home).glob(".local/share/uv/python/*/bin"))


def _pyenv_roots(path: list[Path]) -> Iterator[Path]:
    """Where pyenv keeps versions: by its variable, in the home, and by what of it is on PATH."""
    if root := os.environ.get("PYENV_ROOT"):
        yield Path(root)
    if home := os.environ.get("HOME"):
        yield Path(home, ".pyenv")
    for folder in path:
        yield folder.parent  # PATH has its bin/ and its shims/
        for name in ("python3", "python"):
            try:
                with open(folder / name, "rb") as file:
                    text = file.read(4096)
            except OSError:
                continue
            # A shim is a script that says where its pyenv is.
            if text.startswith(b"#!") and (said := re.search(rb'^export PYENV_ROOT="(.*)"$', text, re.MULTILINE)):
                yield Path(os.fsdecode(said[1]))
    if pyenv := shutil.which("pyenv"):
        done = subprocess.run(
            [pyenv, "root"], capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=False
        )
        if done.stdout.strip():
            yield Path(done.stdout.strip())
