"""The hooks for gunicorn's own gthread worker: import them into the configuration file."""

from .server.hooks import post_worker_init, worker_exit

__all__ = ["post_worker_init", "worker_exit"]
