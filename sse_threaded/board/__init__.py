"""The live task board: the worked example, an ordinary synchronous WSGI app on the library.

    gunicorn "sse_threaded.board:create_app()" -k gthread --threads 64

``app`` routes requests, ``store`` and ``tables`` keep boards and tasks beside the log, ``checks`` reads
request bodies, ``hosts`` refuses foreign names, ``assets`` serves the page, ``settings`` reads the environment.
"""

from __future__ import annotations

from .app import create_app

__all__ = ["create_app"]
