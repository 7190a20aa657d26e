"""The live task board: the worked example, an ordinary synchronous WSGI app on the library.

    gunicorn "sse_threaded.board:create_app()" -k gthread --threads 64

The modules:

- ``app``: the routes and their answers;
- ``model``: what a board is; ``store`` chooses where boards are kept: ``sqlite_store`` (its statements are in
  ``sqlite_tables``) or ``redis_store`` (its scripts are in ``lua``);
- ``request_body``: reads and checks request bodies; ``allowed_hosts``: refuses requests for foreign host names;
- ``page``: puts a board into the page; ``assets``: the page's files;
- ``settings``: reads the environment; ``gunicorn_conf``: gunicorn's settings.
"""

from __future__ import annotations

from .app import create_app

__all__ = ["create_app"]
