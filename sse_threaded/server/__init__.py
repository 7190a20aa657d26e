"""gunicorn: the worker that parks streams, and the hooks for gunicorn's own workers.

The worker, :class:`.thread_worker.ThreadWorker`, is a chain of classes. Each is one subject, in a module of its
own. A server's part of :class:`~sse_threaded.fanout.handover.Handover` is in :mod:`.exchange`.
"""
