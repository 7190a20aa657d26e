"""Breaks things under a board on three hosts, and counts what its clients lost: ``python -m benchmarks.faults``.

``--only NAME`` runs one fault, ``--seconds N`` bounds how long cuts and pauses last, ``--write`` puts the table into
docs/faults.md. It takes some six minutes; redis-server must be installed, and iproute2 and root for namespaces.

A publisher makes tasks at a steady rate on two boards, each at a random host that is well, and notes the event id
of each answer. Clients follow the boards' events, each time at another host, and resume by their last event ID. In
the end every client must have exactly the log's ids, from its start or from its last ``reset`` on.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import redis

from sse_threaded import open_log
from sse_threaded.errors import LogError
from sse_threaded.testing import request
from sse_threaded.testing.processes import POLL_SECONDS

from . import distance
from .hosts import (
    GO_ON,
    PAUSE,
    RELOAD,
    ROOT,
    Host,
    Network,
    Service,
    app_on,
    open_network,
    redis_client,
    redis_on,
    sentinel_on,
)
from .roaming import Publisher, Roamer, Verdict, longest_silence

DOCUMENT = ROOT / "docs" / "faults.md"
HOSTS = 3
CLIENTS = 60
RATE = 50.0  # events a second
_CATCH_UP_SECONDS = 60.0
_WAIT_SECONDS = 30.0


class Stage:
    """Three app hosts and their Redis, running; a context manager.

    :param network: where.
    :param flags: further arguments of redis-server.
    :param replicated: whether there is a replica, and a Sentinel by which the app hosts find the master.

    :ivar apps: the app hosts, each with its service.
    :ivar store: Redis's host, and ``redis`` its service; ``spare`` and ``replica`` those of the replica.
    """

    def __init__(self, network: Network, flags: Sequence[str] = (), *, replicated: bool = False) -> None:
        self.network = network
        self._flags = flags
        self._replicated = replicated
        self._resources = ExitStack()
        self.apps: list[tuple[Host, Service]] = []
        self.bases: list[str] = []

    def __enter__(self) -> Stage:
        with ExitStack() as resources:
            self.store = self.network.add("redis")
            self.redis = self._redis(resources, self.store, *self._flags)
            self.port = self.redis.port
            if self._replicated:
                self._replicate(resources)
            for number in range(HOSTS):
                host = self.network.add(f"app{number}")
                settings = {"RETRY": "500", "HEARTBEAT": "5"}
                app = resources.enter_context(app_on(self.network, host, self._url(host), **settings))
                self.apps.append((host, app))
                self.bases.append(f"http://{host.front}:{app.port}")
            self._resources = resources.pop_all()
        return self

    def _redis(self, resources: ExitStack, host: Host, *flags: str) -> Service:
        directory = resources.enter_context(tempfile.TemporaryDirectory(prefix="sse_threaded-"))
        return resources.enter_context(redis_on(self.network, host, directory, *flags))

    def _replicate(self, resources: ExitStack) -> None:
        self.spare = self.network.add("spare")
        host, port = self.network.way(self.spare, self.store, self.redis.port)
        self.replica = self._redis(resources, self.spare, *self._flags, "--replicaof", f"{host} {port}")
        with redis_client(self.spare, self.replica.port) as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica is in step")
        self.watch = self.network.add("watch")
        directory = resources.enter_context(tempfile.TemporaryDirectory(prefix="sse_threaded-"))
        master = (self.store.back, self.redis.port)
        self.sentinel = resources.enter_context(sentinel_on(self.network, self.watch, directory, master))
        with redis_client(self.watch, self.sentinel.port) as client:
            wait_until(lambda: len(client.sentinel_slaves("board")) == 1, "the Sentinel has found the replica")

    def _url(self, host: Host) -> str:
        if self._replicated:
            address, port = self.network.way(host, self.watch, self.sentinel.port)
            return f"redis+sentinel://{address}:{port}/board"
        address, port = self.network.way(host, self.store, self.redis.port)
        return f"redis://{address}:{port}/0"

    def __exit__(self, *exception: object) -> None:
        if exception[0] is not None:
            for _, app in self.apps:
                sys.stderr.write(app.output()[-5000:])
        self._resources.close()

    def kept(self, boards: Sequence[str]) -> dict[str, list[str]]:
        """The ids that the log has of each board."""
        log = open_log(f"redis://{self.store.front}:{self.port}/0")
        try:
            found: dict[str, list[str]] = {}
            for board in boards:
                after, ids = 0, found.setdefault(board, [])
                while page := log.read(after, channels=[board]):
                    after = page[-1].sequence
                    ids += [log.event_id(each.sequence) for each in page]
            return found
        finally:
            log.close()

    def take_over(self) -> None:
        """From here on the replica is what counts; wait until it is the master."""
        with redis_client(self.spare, self.replica.port) as client:
            wait_until(lambda: client.info("replication")["role"] == "master", "the replica has taken over")
        self.store, self.port = self.spare, self.replica.port


def wait_until(condition: Callable[[], object], what: str, seconds: float = _WAIT_SECONDS) -> None:
    """Wait until ``condition()`` is true, or raise ``AssertionError``; an unreachable Redis is a no."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except (redis.ConnectionError, redis.TimeoutError, LogError):
            pass
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {seconds:g} seconds: {what}")
        time.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Disaster:
    """What is done to a stage.

    :ivar name: for ``--only``.
    :ivar title: what the table says; ``{seconds}`` is how long it lasts.
    :ivar act: does it, for so many seconds where it lasts.
    :ivar seconds: how long it lasts.
    :ivar flags: further arguments of redis-server.
    :ivar replicated: see :class:`Stage`.
    :ivar loses: whether Redis itself loses acknowledged events by it.
    """

    name: str
    title: str
    act: Callable[[Stage, float], None]
    seconds: float = 0.0
    flags: tuple[str, ...] = ()
    replicated: bool = False
    loses: bool = False


def _nothing(stage: Stage, seconds: float) -> None:
    time.sleep(seconds)


def _cut_off(stage: Stage, seconds: float) -> None:
    host, _ = stage.apps[0]
    stage.network.cut(host)
    time.sleep(seconds)
    stage.network.heal(host)


def _kill_redis(stage: Stage, seconds: float) -> None:
    stage.redis.kill()
    time.sleep(seconds)
    stage.redis.start()


def _pause_redis(stage: Stage, seconds: float) -> None:
    stage.redis.signal(PAUSE)
    time.sleep(seconds)
    stage.redis.signal(GO_ON)


def _fail_over(stage: Stage, seconds: float) -> None:
    stage.redis.kill()
    stage.take_over()


def _fail_over_behind(stage: Stage, seconds: float) -> None:
    stage.network.cut(stage.spare)
    time.sleep(seconds)
    # The whole machine: the kernel of one whose Redis was killed would still send what waits for the replica.
    stage.network.cut(stage.store)
    stage.redis.kill()
    stage.network.heal(stage.spare)
    stage.take_over()


def _kill_app(stage: Stage, seconds: float) -> None:
    _, app = stage.apps[0]
    app.kill()
    time.sleep(seconds)
    app.start()


def _reload_app(stage: Stage, seconds: float) -> None:
    for _, app in stage.apps[:2]:
        app.signal(RELOAD)
        time.sleep(seconds)


def _flush(stage: Stage, seconds: float) -> None:
    with redis_client(stage.store, stage.port) as client:
        client.flushall()


_ALWAYS, _EVERYSEC = ("--appendfsync", "always"), ("--appendfsync", "everysec")
DISASTERS = (
    Disaster("none", "nothing, for {seconds:g} s", _nothing, 5),
    Disaster("cut", "one host cut off from Redis for {seconds:g} s, packets dropped in silence", _cut_off, 20),
    Disaster("kill-always", "Redis killed (-9), appendfsync=always, back after {seconds:g} s", _kill_redis, 2, _ALWAYS),
    Disaster("kill", "Redis killed (-9), appendfsync=everysec, back after {seconds:g} s", _kill_redis, 2, _EVERYSEC),
    Disaster("pause", "Redis hangs (SIGSTOP) for {seconds:g} s", _pause_redis, 10),
    Disaster("failover", "Redis killed (-9), Sentinel makes its replica the master", _fail_over, replicated=True),
    Disaster(
        "failover-behind",
        "the same with a replica that was cut off for {seconds:g} s before",
        _fail_over_behind,
        5,
        replicated=True,
        loses=True,
    ),
    Disaster("kill-app", "one app host killed (-9), back after {seconds:g} s", _kill_app, 3),
    Disaster("reload", "two app hosts reloaded (SIGHUP), {seconds:g} s apart", _reload_app, 3),
    Disaster("flush", "FLUSHALL", _flush, loses=True),
)


@dataclass
class Result:
    """A row of the table."""

    title: str
    sent: int
    refused: int
    clients: int
    silence: float
    moves: int
    verdict: Verdict
    failures: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost but by Redis, and nothing doubled."""
        return self.verdict.is_clean and not self.failures

    def row(self) -> str:
        """As Markdown."""
        told = self.verdict
        by_redis = f"{told.lost_by_redis} | {told.reset}"
        counts = f"{self.sent} | {self.refused} | {self.clients} | {self.moves} | {told.lost} | {told.doubled}"
        return f"| {self.title} | {counts} | {self.silence:.1f} s | {by_redis} |"


HEAD = (
    "| what was done | events sent | not answered | clients | reconnections | lost | doubled | longest silence "
    "| acknowledged, but lost by Redis | clients told `reset` |\n" + "|---" * 10 + "|"
)


def run(disaster: Disaster, network: Network, *, clients: int, rate: float, seconds: float, settle: float) -> Result:
    """Set the stage, let it happen, and judge.

    :param seconds: for how long, where it lasts.
    :param settle: seconds of quiet before and after.
    """
    with Stage(network, disaster.flags, replicated=disaster.replicated) as stage:
        boards = ["board-1"]
        if disaster.act is not _flush:  # which takes the other boards away
            boards.append(request("POST", f"{stage.bases[0]}/boards", json={"title": "Second"}).json()["id"])
        roamers = [(Roamer(stage.bases, f"/boards/{b}/events"), b) for b in boards for _ in range(clients // 2)]
        if len(boards) == 1:
            roamers += [(Roamer(stage.bases, "/boards/board-1/events"), "board-1") for _ in range(clients // 2)]
        try:
            wait_until(lambda: all(each.start for each, _ in roamers), "every client has a stream")
            publisher = Publisher(stage.bases, boards, rate)
            publisher.start()
            try:
                time.sleep(settle)
                disaster.act(stage, seconds)
                time.sleep(settle)
            finally:
                publisher.stop()
            kept: dict[str, list[str]] = {}
            wait_until(lambda: kept.update(stage.kept(boards)) or True, "Redis can be read")

            def has_caught_up(roamer: Roamer, board: str) -> bool:
                last = roamer.got[-1].id if roamer.got else roamer.start
                return roamer.failure is not None or not kept[board] or last == kept[board][-1]

            deadline = time.monotonic() + _CATCH_UP_SECONDS
            while time.monotonic() < deadline and not all(has_caught_up(*each) for each in roamers):
                time.sleep(POLL_SECONDS)
            time.sleep(0.2)  # for what comes twice
        finally:
            for each, _ in roamers:
                each.stop()
        for each, _ in roamers:
            each.join()
        return _judge(disaster.title.format(seconds=seconds), roamers, publisher, kept)


def _judge(
    title: str, roamers: list[tuple[Roamer, str]], publisher: Publisher, kept: dict[str, list[str]]
) -> Result:
    verdict = Verdict()
    told = {board: {each.id for each in publisher.sent if each.channel == board} for board in kept}
    verdict.lost_by_redis = sum(len(told[board] - set(kept[board])) for board in kept)
    for roamer, board in roamers:
        verdict.add(roamer.start, roamer.got, kept[board], told[board])
    return Result(
        title,
        len(publisher.sent),
        publisher.refused,
        len(roamers),
        max(longest_silence(each.got, publisher.begun, publisher.ended) for each, _ in roamers),
        sum(each.connections - 1 for each, _ in roamers),
        verdict,
        [each.failure for each, _ in roamers if each.failure is not None],
    )


def main() -> None:
    """Run what was asked for and print, or write, the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults")
    parser.add_argument("--only", choices=[*(each.name for each in DISASTERS), "distance"])
    parser.add_argument("--seconds", type=float, help="how long cuts and pauses last at most")
    parser.add_argument("--write", action="store_true", help="write docs/faults.md")
    asked = parser.parse_args()
    rows, title, is_clean = [], "", True
    print(HEAD)  # noqa: T201
    for disaster in DISASTERS:
        if asked.only not in (None, disaster.name):
            continue
        seconds = min(disaster.seconds, asked.seconds or disaster.seconds)
        with open_network() as network:
            title = network.title
            result = run(disaster, network, clients=CLIENTS, rate=RATE, seconds=seconds, settle=4)
        rows.append(result.row())
        is_clean = is_clean and result.is_clean and (disaster.loses or not result.verdict.lost_by_redis)
        print("\n".join([rows[-1], *result.failures, *result.verdict.details]), flush=True)  # noqa: T201
    further = []
    if asked.only in (None, "distance"):
        with open_network() as network, Stage(network) as stage:
            title = network.title
            further = distance.measure(stage.bases, lambda: redis_client(stage.store, stage.port))
        print("\n".join(further), flush=True)  # noqa: T201
    if asked.write:
        machine = f"CPython {platform.python_version()}, {platform.system()}, a shared machine with two cores"
        DOCUMENT.write_text(_document(title, machine, rows, further))
    sys.exit(not is_clean)


def _document(title: str, machine: str, rows: Sequence[str], further: Sequence[str]) -> str:
    setup = f"""By `python -m benchmarks.faults --write`: {machine}; {title}. {HOSTS} app hosts, each gunicorn with two
parking workers, Redis on a host of its own, in the rows with Sentinel a replica and a Sentinel on two more. {CLIENTS}
clients in all follow two boards (one for FLUSHALL), go to a random host whenever they come back (after 0.5 s), and
resume by their last event ID. Meanwhile {RATE:g} tasks a second are posted, each to a random host that is well."""
    meaning = """*Lost* are ids that the log has in the end and a client, from its start or its last `reset` on, has not;
*doubled* those it got twice, summed over all clients. *Not answered* is what was posted and got no 201: whether it
was taken nobody was told, so it does not count as acknowledged. *Longest silence* is any client's longest time
without an event, while some were posted."""
    text = ["# Faults", "", setup, "", meaning, "", HEAD, *rows, ""]
    return "\n".join([*text, "## From host to host", "", "| what | figure |", "|---|---|", *further, ""])


if __name__ == "__main__":
    main()
