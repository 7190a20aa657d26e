"""gunicorn: the worker that parks streams, and the hooks for gunicorn's own workers.

The worker is :class:`.thread_worker.ThreadWorker`. Its threads are in :mod:`.crew`, its connections in
:mod:`.loop`, its answers in :mod:`.answering`. A server's part of
:class:`~sse_threaded.fanout.handover.Handover` is in :mod:`.exchange`.
"""
