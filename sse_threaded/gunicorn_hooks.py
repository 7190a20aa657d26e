"""The hooks for gunicorn's own gthread worker, and for metrics: import them into the configuration file."""

from .server.hooks import child_exit, on_starting, post_worker_init, worker_exit

__all__ = ["child_exit", "on_starting", "post_worker_init", "worker_exit"]
