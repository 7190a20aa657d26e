"""The faults: what is broken, for how long, and what it may cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from .delivery_check import DeliveryCheck
from .deployment import Deployment, wait_until
from .programs import PAUSE, RELOAD, RESUME, redis_client


@dataclass(frozen=True)
class FaultCase:
    """One fault and its conditions.

    :ivar name: its name for ``--only``.
    :ivar title: its description in the table; ``{seconds}`` is replaced by its duration.
    :ivar act: causes the fault, and ends it after so many seconds, if it has a duration.
    :ivar seconds: the duration.
    :ivar flags: further arguments of redis-server.
    :ivar replicated: see :class:`~.deployment.Deployment`.
    :ivar parts: whether it needs a network that can be divided.
    :ivar loses: whether Redis itself loses acknowledged events.
    """

    name: str
    title: str
    act: Callable[[Deployment, float], None]
    seconds: float = 0.0
    flags: tuple[str, ...] = ()
    replicated: bool = False
    parts: bool = False
    loses: bool = False

    def allows(self, check: DeliveryCheck) -> bool:
        """Return whether the result is good. A client may receive a reset only where Redis loses events.

        After a reset a client fetches the whole state, so a needless reset would hide a loss.
        """
        return check.is_clean and (self.loses or not (check.lost_by_redis or check.resets))


def _nothing(deployment: Deployment, seconds: float) -> None:
    time.sleep(seconds)


def _cut_off(deployment: Deployment, seconds: float) -> None:
    host, _ = deployment.apps[0]
    deployment.network.cut(host)
    time.sleep(seconds)
    deployment.network.heal(host)


def _kill_redis(deployment: Deployment, seconds: float) -> None:
    deployment.redis.kill()
    time.sleep(seconds)
    deployment.redis.start()


def _pause_redis(deployment: Deployment, seconds: float) -> None:
    deployment.redis.signal(PAUSE)
    time.sleep(seconds)
    deployment.redis.signal(RESUME)


def _fail_over(deployment: Deployment, seconds: float) -> None:
    deployment.redis.kill()
    deployment.wait_for_failover()


def _fail_over_behind(deployment: Deployment, seconds: float) -> None:
    deployment.network.cut(deployment.replica_host)
    time.sleep(seconds)
    # Cut the whole host: if only Redis were killed, the kernel would still send the buffered bytes to the replica.
    deployment.network.cut(deployment.redis_host)
    deployment.redis.kill()
    deployment.network.heal(deployment.replica_host)
    deployment.wait_for_failover()


def _part(deployment: Deployment, seconds: float) -> None:
    old, port = deployment.redis_host, deployment.redis_port
    here = [old, deployment.apps[0][0]]
    deployment.network.part(here)
    deployment.wait_for_failover()
    time.sleep(seconds)
    deployment.network.join(here)
    with redis_client(old, port) as client:
        wait_until(lambda: client.info("replication")["role"] == "slave", "the old master has become a replica")


def _kill_app(deployment: Deployment, seconds: float) -> None:
    _, app = deployment.apps[0]
    app.kill()
    time.sleep(seconds)
    app.start()


def _reload_app(deployment: Deployment, seconds: float) -> None:
    for _, app in deployment.apps[:2]:
        app.signal(RELOAD)
        time.sleep(seconds)


def flush_redis(deployment: Deployment, seconds: float) -> None:
    with redis_client(deployment.redis_host, deployment.redis_port) as client:
        client.flushall()


_KILLED = "Redis killed (-9), back after {seconds:g} s"
CASES = (
    FaultCase("none", "none, for {seconds:g} s", _nothing, 5),
    FaultCase("cut", "one host cut off from Redis for {seconds:g} s; packets are dropped silently", _cut_off, 20),
    FaultCase("kill-always", f"{_KILLED}, appendfsync=always", _kill_redis, 2, ("--appendfsync", "always")),
    FaultCase("kill", f"{_KILLED}, appendfsync=everysec", _kill_redis, 2, ("--appendfsync", "everysec")),
    FaultCase("pause", "Redis hangs (SIGSTOP) for {seconds:g} s", _pause_redis, 10),
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
    FaultCase("kill-app", "one app host killed (-9), back after {seconds:g} s", _kill_app, 3),
    FaultCase("reload", "two app hosts reloaded (SIGHUP), {seconds:g} s apart", _reload_app, 3),
    FaultCase("flush", "FLUSHALL", flush_redis, loses=True),
)
