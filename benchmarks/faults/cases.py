"""What may happen to a board on several hosts, and what became of its events meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sse_threaded.testing import request

from .clients import Publisher, Roamer
from .delivery_check import Verdict, longest_silence
from .deployment import Stage, wait_until
from .namespaces import Network
from .programs import GO_ON, PAUSE, RELOAD, redis_client

_CATCH_UP_SECONDS = 60.0

# Between two looks; and after the last, for what might come twice.
_TWICE_SECONDS = 0.2


@dataclass(frozen=True)
class Disaster:
    """What is done to a stage.

    :ivar name: for ``--only``.
    :ivar title: what the table says; ``{seconds}`` is how long it lasts.
    :ivar act: does it, for so many seconds where it lasts.
    :ivar seconds: how long it lasts.
    :ivar flags: further arguments of redis-server.
    :ivar replicated: see :class:`Stage`.
    :ivar parts: whether it needs a network that can be parted.
    :ivar loses: whether Redis itself loses acknowledged events by it.
    """

    name: str
    title: str
    act: Callable[[Stage, float], None]
    seconds: float = 0.0
    flags: tuple[str, ...] = ()
    replicated: bool = False
    parts: bool = False
    loses: bool = False

    def allows(self, verdict: Verdict) -> bool:
        """Whether it explains what was found: only where Redis loses events may a client be told to begin anew.

        A reset takes back what a client should have got, so a needless one would hide a loss.
        """
        return verdict.is_clean and (self.loses or not (verdict.lost_by_redis or verdict.reset))


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


def _part(stage: Stage, seconds: float) -> None:
    old, port = stage.store, stage.port
    here = [old, stage.apps[0][0]]
    stage.network.part(here)
    stage.take_over()
    time.sleep(seconds)
    stage.network.join(here)
    with redis_client(old, port) as client:
        wait_until(lambda: client.info("replication")["role"] == "slave", "the old master gives way")


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


_KILLED = "Redis killed (-9), back after {seconds:g} s"
DISASTERS = (
    Disaster("none", "nothing, for {seconds:g} s", _nothing, 5),
    Disaster("cut", "one host cut off from Redis for {seconds:g} s, packets dropped in silence", _cut_off, 20),
    Disaster("kill-always", f"{_KILLED}, appendfsync=always", _kill_redis, 2, ("--appendfsync", "always")),
    Disaster("kill", f"{_KILLED}, appendfsync=everysec", _kill_redis, 2, ("--appendfsync", "everysec")),
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
    Disaster(
        "part",
        "master and one app host parted from all others, where the replica takes over, for {seconds:g} s more",
        _part,
        5,
        replicated=True,
        parts=True,
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


def run(
    disaster: Disaster, network: Network, *, clients: int, rate: float, seconds: float, settle: float
) -> Result:
    """Set the stage, let it happen, and judge.

    :param rate: events a second.
    :param seconds: for how long, where it lasts.
    :param settle: seconds of quiet before and after.
    """
    with Stage(network, disaster.flags, replicated=disaster.replicated) as stage:
        boards = ["board-1"]
        if disaster.act is not _flush:  # which takes other boards away
            boards.append(request("POST", f"{stage.bases[0]}/boards", json={"title": "Second"}).json()["id"])
        names = [boards[number % len(boards)] for number in range(clients)]
        roamers = [(Roamer(stage.bases, f"/boards/{name}/events"), name) for name in names]
        try:
            wait_until(lambda: all(each.start for each, _ in roamers), "every client has a stream")
            publisher = Publisher(stage.bases, boards, rate)
            publisher.start()
            try:
                time.sleep(settle)
                disaster.act(stage, seconds)
                before = len(publisher.sent)
                wait_until(lambda: len(publisher.sent) > before, "events are taken again")
                time.sleep(settle)
            finally:
                publisher.stop()
            kept = _catch_up(stage, publisher, roamers)
        finally:
            for each, _ in roamers:
                each.stop()
            for each, _ in roamers:
                each.join()
        return _judge(disaster.title.format(seconds=seconds), roamers, publisher, kept)


def _catch_up(stage: Stage, publisher: Publisher, roamers: Sequence[tuple[Roamer, str]]) -> dict[str, list[str]]:
    """Wait until all have what the log has, but not for ever; returns that."""
    kept: dict[str, list[str]] = {}
    wait_until(lambda: kept.update(stage.kept(publisher.boards)) or True, "Redis can be read")

    def has_all(roamer: Roamer, board: str) -> bool:
        verdict = Verdict()
        verdict.add(roamer.start, list(roamer.got), kept[board], publisher.told(board))
        return roamer.failure is not None or verdict.is_clean

    deadline = time.monotonic() + _CATCH_UP_SECONDS
    behind = list(roamers)
    while behind and time.monotonic() < deadline:
        behind = [each for each in behind if not has_all(*each)]
        time.sleep(_TWICE_SECONDS)
    return kept


def _judge(
    title: str, roamers: list[tuple[Roamer, str]], publisher: Publisher, kept: dict[str, list[str]]
) -> Result:
    verdict = Verdict()
    verdict.lost_by_redis = sum(len(publisher.told(board) - set(kept[board])) for board in kept)
    for roamer, board in roamers:
        verdict.add(roamer.start, roamer.got, kept[board], publisher.told(board))
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
