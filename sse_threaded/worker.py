"""The worker class for gunicorn: ``gunicorn -k sse_threaded.worker.ThreadWorker``."""

from .server.thread_worker import ThreadWorker

__all__ = ["ThreadWorker"]
