"""Installs the other servers into a cache folder, outside the repository and the system.

Python packages go into virtual environments, node packages come by npm. nginx and nchan are unpacked from Debian's
packages, so that no service is installed or started. The floor and the client of requests are compiled. Two Python
packages run in the interpreter of this program, beside this package: waitress and Flask. A peer that cannot be
installed is left out, and the report says why.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.harness.postgres_server import find_program

APPS = Path(__file__).resolve().parent / "apps"
PYTHON_PACKAGES = ("uvicorn", "uvloop", "httptools", "starlette", "sse-starlette")
M0SERVE_PACKAGES = ("m0serve",)
_DEBIAN_PACKAGES = ("nginx", "libnginx-mod-nchan")
_NODE_PACKAGES = ("better-sse",)
_NGINX_FOLDER = Path("/var/lib/nginx")
_SECONDS = 600


class Missing(Exception):
    """A peer cannot be installed; the text says why."""


class Peers:
    """The peers. Each is installed at its first use.

    :param cache: the folder; default ``None``: ``$XDG_CACHE_HOME/sse-threaded-bench``, or in ``~/.cache``.
    """

    def __init__(self, cache: Path | None = None) -> None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self.cache = cache or home / "sse-threaded-bench"
        self.cache.mkdir(parents=True, exist_ok=True)
        self._found: dict[str, str | Missing] = {}

    def python(self) -> str:
        """Return an interpreter that has the Python packages; raises :class:`Missing`."""
        return self._once("python", lambda: self._make_environment("python", PYTHON_PACKAGES))

    def m0serve(self) -> str:
        """Return an interpreter that has m0serve; raises :class:`Missing`."""
        return self._once("m0serve", lambda: self._make_environment("m0serve", M0SERVE_PACKAGES))

    def importable(self, package: str) -> str:
        """Return the version of a package that this interpreter has; raises :class:`Missing`."""

        def version() -> str:
            if importlib.util.find_spec(package) is None:
                raise Missing(f"{package} is not installed: pip install '.[bench]'")
            return importlib.metadata.version(package)

        return self._once(package, version)

    def node(self) -> str:
        """Return the folder with the node packages; raises :class:`Missing`."""
        return self._once("node", self._install_node_packages)

    def nginx(self) -> tuple[str, str]:
        """Return the paths of nginx and its module nchan; raises :class:`Missing`."""
        root = self._once("nginx", self._unpack_nginx)
        return _join(root, "usr/sbin/nginx"), _join(root, "usr/lib/nginx/modules/ngx_nchan_module.so")

    def redis(self) -> str:
        """Return the path of redis-server; raises :class:`Missing`."""
        found = shutil.which("redis-server")
        if found is None:
            raise Missing("redis-server is not installed (Debian's package is redis-server)")
        return self._once("redis", lambda: found)

    def postgres(self) -> str:
        """Return the path of PostgreSQL's server; raises :class:`Missing`."""
        found = find_program("postgres")
        if found is None:
            raise Missing("PostgreSQL is not installed (Debian's package is postgresql)")
        self.importable("psycopg")
        return self._once("postgres", lambda: found)

    def floor(self) -> str:
        """Compile the floor and return its path; raises :class:`Missing`."""
        return self._once("floor", lambda: self._compile("floor"))

    def request_client(self) -> str:
        """Compile the client of requests and return its path; raises :class:`Missing`."""
        return self._once("request_client", lambda: self._compile("request_client"))

    def versions(self) -> dict[str, str]:
        """Return the versions of the peers that were used."""
        found: dict[str, str] = {}
        if self._has("python"):
            found |= _package_versions(self.python(), PYTHON_PACKAGES)
        if self._has("m0serve"):
            found |= _package_versions(self.m0serve(), M0SERVE_PACKAGES)
        found |= {name: self.importable(name) for name in ("waitress", "flask") if self._has(name)}
        if self._has("node"):
            found["node"] = _output(["node", "--version"]).lstrip("v")
            path = Path(self.node()) / "node_modules" / "better-sse" / "package.json"
            found["better-sse"] = _field(path.read_text(), '"version": "')
        if self._has("nginx"):
            nginx, module = self.nginx()
            text = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=False).stderr
            found["nginx"] = text.strip().rpartition("/")[2]
            found["nchan"] = self._nchan_version(module)
        if self._has("redis"):
            found["redis"] = _output([self.redis(), "--version"]).partition("v=")[2].partition(" ")[0]
        if self._has("postgres"):
            found["PostgreSQL"] = _output([self.postgres(), "--version"]).split()[2]
        if self._has("floor") or self._has("request_client"):
            found["C compiler"] = _output(["cc", "--version"]).splitlines()[0]
        return found

    def _has(self, name: str) -> bool:
        return isinstance(self._found.get(name), str)

    def _once(self, name: str, make: Callable[[], str]) -> str:
        if name not in self._found:
            try:
                self._found[name] = make()
            except Missing as error:
                self._found[name] = error
            except OSError as error:
                self._found[name] = Missing(str(error))
        found = self._found[name]
        if isinstance(found, Missing):
            raise found
        return found

    def _make_environment(self, name: str, packages: tuple[str, ...]) -> str:
        tag = f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
        python = self.cache / tag / "bin" / "python"
        done = self.cache / tag / "complete"
        if not done.exists():
            _run([sys.executable, "-m", "venv", "--clear", str(self.cache / tag)])
            _run([str(python), "-m", "pip", "install", "--quiet", *packages])
            done.touch()
        return str(python)

    def _install_node_packages(self) -> str:
        for program in ("node", "npm"):
            if shutil.which(program) is None:
                raise Missing(f"{program} is not installed")
        folder = self.cache / "node"
        if not (folder / "complete").exists():
            folder.mkdir(exist_ok=True)
            _run(["npm", "install", "--silent", "--no-audit", "--prefix", str(folder), *_NODE_PACKAGES], folder)
            (folder / "complete").touch()
        return str(folder)

    def _unpack_nginx(self) -> str:
        if shutil.which("nginx") and Path("/usr/lib/nginx/modules/ngx_nchan_module.so").exists():
            return "/"
        # With nchan, nginx needs this folder, whatever its configuration says.
        try:
            _NGINX_FOLDER.mkdir(parents=True, exist_ok=True)
        except PermissionError:
            raise Missing(f"nginx needs the folder {_NGINX_FOLDER}, which only root can make") from None
        folder = self.cache / "nginx"
        if not (folder / "complete").exists():
            for program in ("apt-get", "dpkg-deb"):
                if shutil.which(program) is None:
                    raise Missing(f"{program} is not installed; it fetches nginx and nchan from Debian's packages")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                _run(["apt-get", "download", "--quiet", *_DEBIAN_PACKAGES], folder)
            except Missing:
                if os.geteuid() != 0:
                    raise
                _run(["apt-get", "update", "--quiet"])
                _run(["apt-get", "download", "--quiet", *_DEBIAN_PACKAGES], folder)
            for package in folder.glob("*.deb"):
                _run(["dpkg-deb", "--extract", str(package), str(folder)])
            (folder / "complete").touch()
        return str(folder)

    def _nchan_version(self, module: str) -> str:
        for package in self.cache.glob("nginx/libnginx-mod-nchan_*.deb"):
            return _output(["dpkg-deb", "--field", str(package), "Version"]).partition(":")[2]
        return _output(["dpkg-query", "--show", "--showformat=${Version}", "libnginx-mod-nchan"])

    def _compile(self, name: str) -> str:
        if shutil.which("cc") is None:
            raise Missing("there is no C compiler (cc)")
        program = self.cache / name
        _run(["cc", "-O2", "-o", str(program), str(APPS / f"{name}.c")])
        return str(program)


def _package_versions(python: str, packages: tuple[str, ...]) -> dict[str, str]:
    code = "import sys, importlib.metadata as m\nfor n in sys.argv[1:]: print(m.version(n))"
    lines = _output([python, "-c", code, *packages]).split()
    return dict(zip(packages, lines, strict=True))


def _join(root: str, path: str) -> str:
    return str(Path(root) / path)


def _run(command: list[str], folder: Path | None = None) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode:
        last = (done.stdout.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise Missing(f"{' '.join(command[:3])} fails: {last}")


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout.strip()


def _field(text: str, before: str) -> str:
    return text.partition(before)[2].partition('"')[0]
