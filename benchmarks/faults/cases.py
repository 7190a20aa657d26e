"""The faults: what is broken, for how long, and what it may cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from .delivery_check import DeliveryCheck
from .deployment import Deployment
from .network import Network
from .postgres_store import SYNCHRONOUS, PostgresStore
from .programs import RELOAD
from .redis_store import RedisStore
from .store import Store


@dataclass(frozen=True)
class FaultCase:
    """One fault and its conditions.

    :ivar name: its name for ``--only``.
    :ivar title: its description in the table; ``{seconds}`` is replaced by its duration.
    :ivar act: causes the fault, and ends it after so many seconds, if it has a duration.
    :ivar seconds: the duration.
    :ivar store: the class of the database.
    :ivar flags: settings of the database, see :class:`~.store.Store`.
    :ivar replicated: whether the database has a replica.
    :ivar parts: whether it needs a network that can be divided.
    :ivar loses: whether the database itself loses acknowledged events.
    :ivar boards: how many boards the clients follow.
    """

    name: str
    title: str
    act: Callable[[Deployment, float], None]
    seconds: float = 0.0
    store: type[Store] = RedisStore
    flags: tuple[str, ...] = ()
    replicated: bool = False
    parts: bool = False
    loses: bool = False
    boards: int = 2

    def make_store(self, network: Network) -> Store:
        """Return the database, for :class:`~.deployment.Deployment`."""
        return self.store(network, self.flags, replicated=self.replicated)

    def allows(self, check: DeliveryCheck) -> bool:
        """Return whether the result is good. A client may receive a reset only where the database loses events.

        After a reset a client fetches the whole state, so a needless reset would hide a loss.
        """
        return check.is_clean and (self.loses or not (check.lost_by_store or check.resets)) and not check.needless


def _nothing(deployment: Deployment, seconds: float) -> None:
    time.sleep(seconds)


def _cut_off(deployment: Deployment, seconds: float) -> None:
    host, _ = deployment.apps[0]
    deployment.network.cut(host)
    time.sleep(seconds)
    deployment.network.heal(host)


def _kill_store(deployment: Deployment, seconds: float) -> None:
    deployment.store.kill()
    time.sleep(seconds)
    deployment.store.start()


def _pause_store(deployment: Deployment, seconds: float) -> None:
    deployment.store.pause()
    time.sleep(seconds)
    deployment.store.go_on()


def _fail_over(deployment: Deployment, seconds: float) -> None:
    deployment.store.kill()
    deployment.store.fail_over()


def _fail_over_behind(deployment: Deployment, seconds: float) -> None:
    store = deployment.store
    deployment.network.cut(store.replica_host)
    time.sleep(seconds)
    # Cut the whole host: if only the server were killed, the kernel would still send the buffered bytes.
    deployment.network.cut(store.host)
    store.kill()
    deployment.network.heal(store.replica_host)
    store.fail_over()


def _part(deployment: Deployment, seconds: float) -> None:
    deployment.store.part([deployment.apps[0][0]], seconds)


def _kill_app(deployment: Deployment, seconds: float) -> None:
    _, app = deployment.apps[0]
    app.kill()
    time.sleep(seconds)
    app.start()


def _reload_app(deployment: Deployment, seconds: float) -> None:
    for _, app in deployment.apps[:2]:
        app.signal(RELOAD)
        time.sleep(seconds)


def _empty(deployment: Deployment, seconds: float) -> None:
    deployment.store.empty()


_KILLED = "Redis killed (-9), back after {seconds:g} s"
_CUT = "one host cut off from {} for {{seconds:g}} s; packets are dropped silently"
_APP = "one app host killed (-9), back after {seconds:g} s"
_RELOAD = "two app hosts reloaded (SIGHUP), {seconds:g} s apart"

REDIS_CASES = (
    FaultCase("none", "none, for {seconds:g} s", _nothing, 5),
    FaultCase("cut", _CUT.format("Redis"), _cut_off, 20),
    FaultCase("kill-always", f"{_KILLED}, appendfsync=always", _kill_store, 2, flags=("--appendfsync", "always")),
    FaultCase("kill", f"{_KILLED}, appendfsync=everysec", _kill_store, 2, flags=("--appendfsync", "everysec")),
    FaultCase("pause", "Redis hangs (SIGSTOP) for {seconds:g} s", _pause_store, 10),
    FaultCase("failover", "Redis killed (-9), Sentinel makes its replica the master", _fail_over, replicated=True),
    FaultCase(
        "failover-behind",
        "the same, but the replica was cut off for {seconds:g} s before",
        _fail_over_behind,
        5,
        replicated=True,
        loses=True,
    ),
    FaultCase(
        "part",
        "master and one app host cut off from all others, for {seconds:g} s after the replica became master there",
        _part,
        5,
        replicated=True,
        parts=True,
        loses=True,
    ),
    FaultCase("kill-app", _APP, _kill_app, 3),
    FaultCase("reload", _RELOAD, _reload_app, 3),
    # It deletes all boards but the first.
    FaultCase("flush", "FLUSHALL", _empty, loses=True, boards=1),
)

POSTGRES_CASES = (
    FaultCase("none", "none, for {seconds:g} s", _nothing, 5, PostgresStore),
    FaultCase("cut", _CUT.format("PostgreSQL"), _cut_off, 20, PostgresStore),
    FaultCase("kill", "PostgreSQL killed (-9), back after {seconds:g} s", _kill_store, 2, PostgresStore),
    FaultCase("pause", "PostgreSQL hangs (SIGSTOP) for {seconds:g} s", _pause_store, 10, PostgresStore),
    FaultCase(
        "failover",
        "PostgreSQL killed (-9), its synchronous replica promoted",
        _fail_over,
        0,
        PostgresStore,
        (SYNCHRONOUS,),
        replicated=True,
    ),
    FaultCase(
        "failover-async",
        "the same with an asynchronous replica",
        _fail_over,
        0,
        PostgresStore,
        replicated=True,
        loses=True,
    ),
    FaultCase(
        "failover-behind",
        "the same, but the replica was cut off for {seconds:g} s before",
        _fail_over_behind,
        5,
        PostgresStore,
        replicated=True,
        loses=True,
    ),
    FaultCase(
        "part",
        "the primary and one app host cut off, the replica promoted, the old primary stopped {seconds:g} s later",
        _part,
        5,
        PostgresStore,
        replicated=True,
        parts=True,
        loses=True,
    ),
    FaultCase("kill-app", _APP, _kill_app, 3, PostgresStore),
    FaultCase("reload", _RELOAD, _reload_app, 3, PostgresStore),
    FaultCase("empty", "TRUNCATE of the log's tables", _empty, 0, PostgresStore, loses=True),
)

CASES = {"redis": REDIS_CASES, "postgresql": POSTGRES_CASES}
