"""gunicorn's configuration for the plain gthread worker: the two hooks of this package."""

from sse_threaded.gunicorn_hooks import post_worker_init, worker_exit

__all__ = ["post_worker_init", "worker_exit"]
