"""Makes the driver's client (redis-py) for an address."""

from __future__ import annotations

from typing import Any

from redis import Redis, RedisCluster
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry
from redis.sentinel import Sentinel

from .url import Address


def connect(address: Address, name: str, timeout: float) -> Any:
    """Return a client of the driver, which any thread may use. Only for a Cluster this connects at once.

    :param address: where the server is.
    :param name: the client's name in ``CLIENT LIST``.
    :param timeout: seconds for one answer, and for one connection.
    :raises Exception: an error of the driver.
    """
    host, port = address.hosts[0]
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # Only RedisClient.run() tries again: it makes sure that nothing is done twice.
        "retry": Retry(NoBackoff(), 0),
        "client_name": name,
        "protocol": 2,
    }
    options |= {key: value for key, value in address.secrets.items() if not key.startswith("sentinel")}
    options |= address.options
    if "ssl_check_hostname" in options:
        options["ssl_check_hostname"] = options["ssl_check_hostname"].lower() not in ("0", "false", "no")
    if address.tls:
        options["ssl"] = True
    if address.kind == "cluster":
        nodes = [ClusterNode(*each) for each in address.hosts]  # type: ignore[no-untyped-call]
        return RedisCluster(startup_nodes=nodes, **options)
    options["db"] = address.db
    if address.kind == "sentinel":
        to_sentinel: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        for key, value in address.secrets.items():
            if key.startswith("sentinel_"):
                to_sentinel[key[len("sentinel_") :]] = value
        if address.tls:
            to_sentinel |= {"ssl": True} | {key: options[key] for key in options if key.startswith("ssl_")}
        sentinel: Any = Sentinel(address.hosts, sentinel_kwargs=to_sentinel, **options)  # type: ignore[no-untyped-call]
        return sentinel.master_for(address.service)
    return Redis(host=host, port=port, **options)
