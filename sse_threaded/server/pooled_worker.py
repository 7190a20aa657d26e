"""The worker's threads: connections and tasks get to them by way of :mod:`.lazy_pool`.

gunicorn gives each connection to its pool at once. When many come together, threads that take the interpreter from
each other cost more than the requests do. Here one thread after the other serves them.

It overrides of gunicorn's:

- ``get_thread_pool``, ``enqueue_req``: connections go to the pool's threads by way of :mod:`.lazy_pool`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gunicorn.workers import gthread

from .client_connection import ClientConnection
from .lazy_pool import LazyPool


class PooledWorker(gthread.ThreadWorker):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's ThreadWorker, with few threads for many short tasks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy_pool: LazyPool
        self._dispatch_is_asked = False  # the main thread was woken for a task
        self._ends_at_once = False

    def get_thread_pool(self) -> Any:
        """Make gunicorn's pool, and the lazy one that uses it."""
        pool = super().get_thread_pool()
        self._lazy_pool = LazyPool(pool, self.cfg.threads, self._on_idle_thread)
        return pool

    def enqueue_req(self, conn: ClientConnection) -> None:
        """Have a thread serve the connection's request, which has begun to arrive. The main thread."""
        self._lazy_pool.put(self._serve, conn)

    def _serve(self, conn: ClientConnection) -> None:
        """Serve one request of a connection. A thread of the pool."""
        raise NotImplementedError

    def enqueue(self, task: Callable[[], None]) -> None:
        """Have a thread run ``task``, which must not raise. Where the worker ends at once, the main thread runs
        it.

        The main thread.
        """
        if self._ends_at_once:
            task()
        else:
            self._lazy_pool.put(task)

    def enqueue_next(self, task: Callable[[], None]) -> None:
        """Have a thread of the pool run ``task``: the calling one, when it is done with its own."""
        self._lazy_pool.put(task)

    def enqueue_soon(self, task: Callable[[], None]) -> None:
        """Have a thread of the pool run ``task``, which may run the app's code. Any thread; this does not wait."""
        self._lazy_pool.put(task)
        if not self._dispatch_is_asked:
            self._dispatch_is_asked = True
            self.method_queue.defer(self._dispatch)

    @property
    def has_tasks(self) -> bool:
        """Whether tasks wait for a thread."""
        return self._lazy_pool.waiting > 0

    def _dispatch(self) -> None:
        self._dispatch_is_asked = False
        self._lazy_pool.dispatch()

    def _on_idle_thread(self) -> None:
        """A thread of the pool stops, as the main thread awaits, or although a task has come. It calls this."""
        raise NotImplementedError
