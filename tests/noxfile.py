"""Environments to test in: ``nox -f tests/noxfile.py``, or ``bash tests/run``, which installs nox before.

Each Python that is found has a session, ``tests-3.14`` and so on. Without arguments the newest one runs, with
``-t rest`` all others, with ``-t all`` all. ``-s coverage`` measures which lines and branches of the package run,
also in servers. What follows ``--`` goes to ``python -m tests``: names, ``-v``, ``-f``.

``-t gunicorn`` runs the tests of the server room with older releases of gunicorn: the lowest that setup.cfg
allows, with the lowest Werkzeug, and the last of each later major number. All other sessions have the newest.

The package is installed as a user would install it. The tests run in a copy of the checkout without sse_threaded/,
so that the installed package is what they import, also in servers that they start from there.
"""

from __future__ import annotations

import configparser
import filecmp
import os
import re
import shutil
import sys
from pathlib import Path

import nox

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from tests.runner.pythons import SUPPORTED, find_pythons  # noqa: E402 (needs the path above)
from tests.runner.selection import UnknownName, find_modules, select  # noqa: E402

PLACE = CHECKOUT / ".nox"
COUNTS = PLACE / "counts"  # a file for each session that ran: "N passed, N failed, N skipped"
CLIENTS = CHECKOUT / "tests" / "browser" / "clients"
NPM = CHECKOUT / ".test-npm"

# The tests that run with each gunicorn, beside the unit tests, which are also for each Werkzeug.
SERVER_ROOM = (
    "live/test_gevent.py",
    "live/test_gunicorn.py",
    "live/test_http2.py",
    "live/test_reload.py",
    "live/test_servers.py",
    "live/test_worker.py",
    "live/test_worker_ends.py",
    "live/test_worker_requests.py",
    "live/test_worker_tls.py",
    "live/wrappers/test_on_the_worker.py",
)

# These compare the worker byte for byte with gunicorn's own code. The worker does what the newest does.
NEWEST_ONLY = ("tests.unit.test_response",)

_NOT_COPIED = (
    ".git",
    ".nox",
    ".venv*",
    ".test-*",
    "build",
    "dist",
    "*.egg-info",
    ".*_cache",
    "__pycache__",
    "*.db*",
)

# What would make a Python look for modules elsewhere, or pip install to elsewhere.
for _name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONSAFEPATH", "PYTHONUSERBASE", "VIRTUAL_ENV"):
    os.environ.pop(_name, None)
for _name in ("PIP_USER", "PIP_TARGET", "PIP_PREFIX"):
    os.environ.pop(_name, None)
# Without compiled files each process of a run compiles all that it imports, which takes a second for each server.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.update(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1", PIP_ROOT_USER_ACTION="ignore")

nox.needs_version = ">=2024.10.9"
nox.options.envdir = str(PLACE)
nox.options.tags = ["newest"]
nox.options.reuse_venv = "yes"
nox.options.default_venv_backend = "uv|virtualenv"  # uv takes seconds where pip takes a minute
nox.options.error_on_missing_interpreters = True

_once = os.environ.get("SSE_TESTS_ONCE", "todo")


def _install(session: nox.Session, *others: str, releases: tuple[str, ...] = ()) -> None:
    """Install the package with its extra ``test``, and go to the tree to run the tests in.

    :param releases: which ones of its requirements, such as ``"gunicorn<24"``; default the newest.
    """
    tree = Path(session.virtualenv.location, "tree")
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(CHECKOUT, tree, symlinks=True, ignore=shutil.ignore_patterns(*_NOT_COPIED))
    # One setuptools for all runs, instead of a fresh one for each build; from 70.1 on it makes wheels itself.
    session.install("setuptools>=70.1", *others)
    session.install("--no-build-isolation", f"{tree}[test]", *releases)
    for path in (tree / "sse_threaded", tree / "build", *tree.glob("*.egg-info")):
        shutil.rmtree(path, ignore_errors=True)
    session.chdir(tree)
    where = str(session.run("python", "-c", "import sse_threaded; print(sse_threaded.__file__)", silent=True))
    if "site-packages" not in where:
        session.error(f"the tests would import {where.strip()} and not the installed package")


def _fetch_npm(session: nox.Session) -> None:
    """Bring what package.json of the clients names into .test-npm, if a test needs it and it has changed."""
    try:
        folder = CHECKOUT / "tests"
        selected = select(find_modules(folder), _names(session.posargs), folder.name)
    except UnknownName:
        return  # the command that runs the tests says it
    if not any(one.module.needs_npm for one in selected):
        return
    lists = [CLIENTS / name for name in ("package.json", "wheels.txt")]
    if all((NPM / one.name).exists() and filecmp.cmp(one, NPM / one.name, shallow=False) for one in lists):
        return
    session.log("Fetching what tests/browser/clients/package.json names")
    shutil.rmtree(NPM, ignore_errors=True)
    NPM.mkdir()
    shutil.copy(lists[0], NPM)
    # No scripts of the packages run, and no lock file is written.
    options = ("--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund")
    session.run("npm", "install", "--prefix", str(NPM), *options, external=True, silent=True)
    # One wheel is wanted for the script in it alone, so neither its Python nor what it needs counts.
    options = ("--no-deps", "--ignore-requires-python", "--target", str(NPM / "wheels"))
    session.run(sys.executable, "-m", "pip", "install", *options, "-r", str(lists[1]), external=True, silent=True)
    shutil.copy(lists[1], NPM)  # last: where it is, all is there


def _names(arguments: list[str]) -> list[str]:
    return [one for one in arguments if not one.startswith("-") and not one.isdigit()]


def _test(session: nox.Session, *command: str, names: tuple[str, ...] = ()) -> None:
    """Run the tests by ``command``, which ends before their names.

    :param names: what to run if the command line names nothing, of what each Python runs; default all.
    """
    global _once
    COUNTS.mkdir(parents=True, exist_ok=True)
    counts = COUNTS / session.name
    counts.write_text("0 passed, 1 failed, 0 skipped\n")  # unless the tests get to their end
    once = "done" if names else _once
    if once == "todo":
        _fetch_npm(session)
    environment = {
        "SSE_TESTS_NO_SKIP": "1",
        "SSE_TESTS_CHECKOUT": str(CHECKOUT),
        "SSE_TESTS_ONCE": once,
        "SSE_TESTS_COUNTS": str(counts),
    }
    if not names:
        _once = "done"  # what says the same under every Python has run then
    if _names(session.posargs):
        names = ()
    session.run(*command, *session.posargs, *names, env=environment)


def tests(session: nox.Session) -> None:
    """Run the tests under one Python."""
    _install(session)
    _test(session, "python", "-m", "tests")


def coverage(session: nox.Session) -> None:
    """Measure which lines and branches the tests run; below the threshold in setup.cfg it fails."""
    _install(session, "coverage>=7.10")
    data = Path(session.virtualenv.location, "data")
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir()
    session.env["COVERAGE_FILE"] = str(data / "coverage")
    try:
        _test(session, "coverage", "run", "-m", "tests")
    finally:
        session.chdir(CHECKOUT)  # where the sources are
        session.run("coverage", "combine", "--quiet")
        session.run("coverage", "report")


def _server_room() -> tuple[str, ...]:
    modules = find_modules(CHECKOUT / "tests" / "unit")
    names = [f"tests.{module.name}" for module in modules]
    return (*(name for name in names if name not in NEWEST_ONLY), *SERVER_ROOM)


def _gunicorns() -> dict[str, tuple[str, ...]]:
    """The older releases to test with, by their major number."""
    settings = configparser.ConfigParser()
    settings.read(CHECKOUT / "setup.cfg")
    required = settings["options"]["install_requires"]
    bounds = re.search(r"^gunicorn>=([0-9]+),<([0-9]+)$", required, re.MULTILINE)
    werkzeug = re.search(r"^werkzeug>=([0-9.]+)", required, re.MULTILINE)
    if bounds is None or werkzeug is None:
        raise ValueError("setup.cfg does not say which releases of gunicorn and Werkzeug it supports")
    lowest, beyond = int(bounds[1]), int(bounds[2])
    releases = {str(lowest): (f"gunicorn=={lowest}", f"werkzeug=={werkzeug[1]}")}
    for major in range(lowest + 1, beyond - 1):
        releases[str(major)] = (f"gunicorn>={major},<{major + 1}",)
    return releases


def gunicorn(session: nox.Session) -> None:
    """Run the tests of the server room with an older gunicorn."""
    _install(session, releases=_gunicorns()[session.name.partition("-")[2]])
    _test(session, "python", "-m", "tests", names=_server_room())


_pythons = find_pythons()
_newest = next((version for version in _pythons if version in SUPPORTED), None)
for _version, _path in _pythons.items():
    _tags = ["all", "newest" if _version == _newest else "rest"]
    nox.session(tests, python=_path, name=f"tests-{_version}", tags=_tags)
if len(_pythons) < 2:

    @nox.session(python=False, tags=["rest"])
    def no_other_python(session: nox.Session) -> None:
        """Stand for the other Pythons, of which there are none: nox fails where a tag has no session."""


if _newest:
    nox.session(coverage, python=_pythons[_newest])
    for _major in _gunicorns():
        nox.session(gunicorn, python=_pythons[_newest], name=f"gunicorn-{_major}", tags=["gunicorn"])
