"""A real PostgreSQL on a free port, for tests and benchmarks: stopped, killed, paused, started again, promoted.

A replica, and a PgBouncer in between::

    with PostgresServer() as primary, primary.replica() as replica, PgBouncer(primary) as pooler:
        hub = Hub(pooler.url(listen=primary.url()))
        primary.kill()
        replica.promote()

PostgreSQL refuses to run as root, so for root it runs as the user ``postgres``.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sse_threaded.testing.processes import process_table
from tests.harness.server_program import ServerProgram
from tests.support import missing, wait_until

try:
    import psycopg
except ImportError:  # PostgresServer says so
    psycopg = None  # type: ignore[assignment]

_SECONDS = 60
_names = itertools.count()

# Settings for tests: nothing is written to the disk at once. All changes survive kill -9, as the kernel has them.
_SETTINGS = {
    "fsync": "off",
    # In the server's folder. A server that is killed would leave a file in /dev/shm, which is memory.
    "dynamic_shared_memory_type": "mmap",
    "shared_buffers": "16MB",
    "max_wal_senders": "8",
    "wal_level": "replica",
    "hot_standby": "on",
    "max_prepared_transactions": "20",
    "wal_keep_size": "256MB",
    "wal_retrieve_retry_interval": "200ms",
    "log_line_prefix": "%m [%p] %a: ",
    "timezone": "UTC",
}


def find_program(name: str) -> str | None:
    """The path of a program of PostgreSQL or of PgBouncer: that of ``PATH``, or else Debian's newest release."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    folders = [*os.get_exec_path(), *map(str, reversed(places)), "/usr/sbin"]
    return shutil.which(name, path=os.pathsep.join(folders))


def _program(name: str, package: str) -> str:
    path = find_program(name)
    if path is None:
        missing(f"{name} (apt-get install {package})")
    return path


def _as_postgres() -> list[str]:
    """The beginning of a command for another user than root."""
    if os.getuid():
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--inh-caps=-all"]


def _make_folder() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="sse_threaded-postgres-", ignore_cleanup_errors=True)
    if not os.getuid():
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            missing("the user postgres (apt-get install postgresql)")
        os.chown(folder.name, user.pw_uid, user.pw_gid)
    return folder


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(pid, number)


class PostgresServer(ServerProgram):
    """A server of its own, on the loopback interface, from its making until :meth:`close`.

    :param settings: settings of PostgreSQL, such as ``{"max_connections": "20"}``; default: those for tests only.
    :param password: the password of the user ``postgres``; default ``None``: it needs none.
    :param copy_of: a server of which it is a replica; default ``None``.
    :param host: the address to listen on; default 127.0.0.1.
    :param port: default a free one.
    :param prefix: begins all its commands, for example to run them in a network namespace; default none.
    :param source: for a replica, the address and port by which it reaches its primary; default: the primary's own.
    :ivar folder: has the folder ``data``, the socket and the file ``output``.
    """

    user = "postgres"
    database = "postgres"

    def __init__(
        self,
        settings: dict[str, str] | None = None,
        *,
        password: str | None = None,
        copy_of: PostgresServer | None = None,
        host: str = "127.0.0.1",
        port: int | None = None,
        prefix: Sequence[str] = (),
        source: tuple[str, int] | None = None,
    ) -> None:
        if psycopg is None:
            missing("psycopg (pip install '.[postgres]')")
        postgres = _program("postgres", "postgresql")
        self._files = _make_folder()
        self.folder = Path(self._files.name)
        self.host = host
        self.password = copy_of.password if copy_of else password
        self._prefix = list(prefix)
        self._settings = {**(copy_of._settings if copy_of else _SETTINGS), **(settings or {})}
        super().__init__("postgres", [], self.folder, timeout=_SECONDS)
        # While the server is down nobody else may have its port: the clients that wait for it would talk to them.
        self.port = port or self.reserve_port(host)
        self._command = [*prefix, *_as_postgres(), postgres, "-D", str(self.folder / "data"), "-p", str(self.port)]
        self._command += ["-h", host, "-k", str(self.folder)]
        for name, value in self._settings.items():
            self._command += ["-c", f"{name}={value}"]
        try:
            if copy_of is None:
                self._make()
            else:
                self._copy(copy_of, source or (copy_of.host, copy_of.port))
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> PostgresServer:
        return self  # it was started when it was made

    def _make(self) -> None:
        options = ["-U", self.user, "-E", "UTF8", "--locale=C", "--no-sync"]
        if self.password is None:
            options.append("--auth=trust")
        else:
            file = self.folder / "password"
            file.write_text(self.password)
            file.chmod(0o644)
            options += ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={file}"]
        self.run("initdb", "-D", str(self.folder / "data"), *options)

    def _copy(self, primary: PostgresServer, source: tuple[str, int]) -> None:
        name = f"replica{next(_names)}"
        host, port = source
        target = f"host={host} port={port} user={self.user} application_name={name}"
        data = self.folder / "data"
        options = ["-R", "-X", "stream", "-c", "fast", "--no-sync", "-D", str(data)]
        environment = {} if self.password is None else {"PGPASSWORD": self.password}
        self.run("pg_basebackup", "-d", target, *options, **environment)
        if self.password is not None:
            target += " password='{}'".format(self.password.replace("'", "\\'"))
        # pg_basebackup has written a longer one, which an older server may not know.
        with (data / "postgresql.auto.conf").open("a") as file:
            file.write("primary_conninfo = '{}'\n".format(target.replace("'", "''")))

    def run(self, program: str, *args: str, **environment: str) -> str:
        """Run a program of PostgreSQL as the server's user; returns its output."""
        path = _program(program, "postgresql")
        done = subprocess.run(
            [*self._prefix, *_as_postgres(), path, *args],
            env={**self._env, **environment},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{program} failed: {done.stdout}"
        return done.stdout

    # Clients.

    def url(self, database: str | None = None, *, user: str | None = None, **options: str) -> str:
        """A URL of this server.

        :param database: default :attr:`database`.
        :param user: default ``postgres``, with its password.
        :param options: options of the URL, such as ``prefix="other"``.
        """
        secret = "" if self.password is None or user else f":{quote(self.password, safe='')}"
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
        place = f"{user or self.user}{secret}@{self.host}:{self.port}/{database or self.database}"
        return f"postgresql://{place}{'?' if query else ''}{query}"

    def connect(self, database: str | None = None, **options: Any) -> psycopg.Connection[Any]:
        """A connection of psycopg's, for looking, in autocommit. It goes through a socket in :attr:`folder`."""
        place = {"host": str(self.folder), "port": self.port, "user": self.user}
        database = database or self.database
        return psycopg.connect(**place, dbname=database, autocommit=True, connect_timeout=10, **options)

    def ask(self, statement: str, *values: object, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run one statement over a connection of its own; returns its rows."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def make_database(self) -> str:
        """Make a database that nobody has had; returns its name."""
        name = f"t{next(_names)}_{os.getpid()}"
        self.ask(f"CREATE DATABASE {name}")
        return name

    def sessions(self, name: str = "sse_threaded%") -> list[tuple[int, str]]:
        """Process id and name of the sessions of clients.

        :param name: a pattern of LIKE for their ``application_name``; default: all of this package.
        """
        statement = (
            "SELECT pid, application_name FROM pg_stat_activity WHERE application_name LIKE %s ORDER BY pid"
        )
        return self.ask(statement, name)

    def end_sessions(self, name: str = "sse_threaded%") -> int:
        """End the sessions of clients (pg_terminate_backend); returns how many. The parameter is as above."""
        sessions = self.sessions(name)
        for pid, _ in sessions:
            self.ask("SELECT pg_terminate_backend(%s)", pid)
        return len(sessions)

    # Its life.

    def is_answering(self) -> bool:
        """Whether it takes statements."""
        try:
            return self.ask("SELECT 1") == [(1,)]
        except psycopg.OperationalError:
            return False

    def stop(self, mode: str = "fast") -> None:
        """End it in an orderly way, and wait for that.

        :param mode: ``"fast"``, the default, ends all sessions; ``"smart"`` waits for their end.
        """
        self.signal(signal.SIGINT if mode == "fast" else signal.SIGTERM)
        self.wait(_SECONDS)

    def restart(self) -> None:
        """End it in an orderly way, and start it again."""
        self.stop()
        self.start()

    def processes(self) -> list[int]:
        """The process ids of the server: each session has its own process, in a process group of its own."""
        if self._child is None:
            return []
        return [self.pid, *(each.pid for each in process_table() if each.parent == self.pid)]

    def kill(self) -> None:
        """End all its processes at once, as a crash would (kill -9); may be called twice."""
        if self._child is None or self._child.poll() is not None:
            return
        super().kill()
        # Its other processes would notice that, unless one waits for a lock of a process that was killed.
        wait_until(lambda: not self._kill_orphans(), message="PostgreSQL is dead")
        self._remove_remains()

    def _remove_remains(self) -> None:
        """Remove the lock file and the shared memory that a killed server leaves behind."""
        lock = self.folder / "data" / "postmaster.pid"
        if lock.exists():
            # The seventh line has the key and the id of a segment. A machine has room for some thousand segments.
            for line in lock.read_text().splitlines()[6:7]:
                subprocess.run(["ipcrm", "-m", line.split()[1]], capture_output=True, check=False)
            lock.unlink()

    def _kill_orphans(self) -> int:
        """Kill the processes in the server's folder; returns how many there were."""
        data, found = str(self.folder / "data"), 0
        for each in process_table():
            with suppress(OSError):
                if os.readlink(f"/proc/{each.pid}/cwd") == data:
                    _signal(each.pid, signal.SIGKILL)
                    found += 1
        return found

    def kill_session(self, pid: int) -> None:
        """Kill the process of one session (kill -9). PostgreSQL then ends all sessions and recovers."""
        assert pid in self.processes()
        os.kill(pid, signal.SIGKILL)

    def pause(self) -> None:
        """Let all its processes hang (SIGSTOP): the kernel takes connections, and nothing is answered."""
        stopped: set[int] = set()
        self.signal(signal.SIGSTOP)
        while left := {*self.processes()} - stopped:  # one may have started while the others were stopped
            for pid in left:
                _signal(pid, signal.SIGSTOP)
            stopped |= left

    def go_on(self) -> None:
        """Let it work again."""
        for pid in self.processes():
            _signal(pid, signal.SIGCONT)

    def set(self, name: str, value: str) -> None:
        """Change a setting that can be changed while it runs.

        :param name: the setting; it must not be among those of its command.
        :param value: its value.
        """
        self.ask(f"ALTER SYSTEM SET {name} = '{value}'")
        self.ask("SELECT pg_reload_conf()")
        wait_until(lambda: self.ask(f"SHOW {name}") == [(value,)], message=f"{name} is {value}")

    def allow(self, *lines: str) -> None:
        """Replace pg_hba.conf, which says who may connect over TCP, and how."""
        text = "\n".join(["local all all trust", *lines])
        (self.folder / "data" / "pg_hba.conf").write_text(f"{text}\n")
        self.signal(signal.SIGHUP)

    # Replicas.

    def replica(self, settings: dict[str, str] | None = None) -> PostgresServer:
        """Make a replica that follows at once; see :meth:`make_synchronous`.

        :param settings: further settings of PostgreSQL.
        """
        return PostgresServer(settings, copy_of=self, host=self.host)

    def make_synchronous(self, count: int = 1) -> None:
        """Acknowledge a commit only when so many replicas have it; 0: none."""
        names = f"ANY {count} (*)" if count else ""
        if count:
            statement = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
            wait_until(lambda: self.ask(statement)[0][0] >= count, timeout=_SECONDS, message="replicas stream")
        self.set("synchronous_standby_names", names)

    def is_in_step(self, replica: PostgresServer) -> bool:
        """Whether a replica has everything that is here now."""
        ((here,),) = self.ask("SELECT pg_current_wal_lsn()")
        ((there,),) = replica.ask("SELECT coalesce(pg_last_wal_replay_lsn() >= %s::pg_lsn, false)", here)
        return bool(there)

    def hold_back(self) -> None:
        """On a replica: get further changes, but do not make them visible; nothing more comes at the promotion."""
        self.ask("ALTER SYSTEM SET primary_conninfo = ''")
        self.ask("SELECT pg_reload_conf()")
        receiver = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'"
        wait_until(lambda: self.ask(receiver) == [(0,)], timeout=_SECONDS, message="the replica is cut off")

    def promote(self) -> None:
        """Make a replica a primary, and wait until it takes changes."""
        assert self.ask("SELECT pg_promote(true, 60)") == [(True,)]
        wait_until(lambda: self.ask("SELECT pg_is_in_recovery()") == [(False,)], message="it takes changes")

    def close(self) -> None:
        """End it, and remove its files; may be called twice."""
        self.kill()
        super().close()
        self._remove_remains()  # of one that a test has killed itself
        self._files.cleanup()


class PgBouncer(ServerProgram):
    """PgBouncer in front of one server, from its making until :meth:`close`; users need no password here.

    :param server: where it connects to.
    :param mode: ``"transaction"``, the default, ``"session"`` or ``"statement"``.
    :param pool: how many connections to the server it has at most for one user and database; default 4.
    """

    def __init__(self, server: PostgresServer, mode: str = "transaction", *, pool: int = 4) -> None:
        path = _program("pgbouncer", "pgbouncer")
        self.server = server
        self._files = _make_folder()
        folder = Path(self._files.name)
        super().__init__("pgbouncer", [*_as_postgres(), path, str(folder / "pgbouncer.ini")], folder)
        self.host = "127.0.0.1"
        self.port = self.reserve_port(self.host)
        secret = "" if server.password is None else f" password='{server.password}'"
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={server.host} port={server.port} user={server.user}{secret}\n"
            f"[pgbouncer]\nlisten_addr = {self.host}\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = any\npool_mode = {mode}\ndefault_pool_size = {pool}\nmax_client_conn = 200\n"
            "server_login_retry = 1\nadmin_users = postgres\n"
        )
        (folder / "pgbouncer.ini").chmod(0o644)
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> PgBouncer:
        return self  # it was started when it was made

    def url(self, database: str | None = None, **options: str) -> str:
        """A URL through it; the parameters are as those of :meth:`PostgresServer.url`."""
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
        place = f"{self.server.user}@{self.host}:{self.port}/{database or self.server.database}"
        return f"postgresql://{place}{'?' if query else ''}{query}"

    def is_answering(self) -> bool:
        """Whether it takes statements."""
        try:
            with psycopg.connect(self.url(), autocommit=True, connect_timeout=10) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def reload(self) -> None:
        """Let it read its file again."""
        self.signal(signal.SIGHUP)

    def close(self) -> None:
        """End it, and remove its files; may be called twice."""
        super().close()
        self._files.cleanup()
