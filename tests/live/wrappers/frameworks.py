"""The apps of :mod:`tests.live.wrappers.apps` that are made with Flask, Bottle or Django."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import bottle
import django
import flask
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import StreamingHttpResponse
from django.urls import path
from werkzeug.middleware.proxy_fix import ProxyFix

from tests.live.wrappers.apps import positive, redacting, stream

urlpatterns: list[Any] = []  # Django's


def make_flask() -> flask.Flask:
    app = flask.Flask(__name__)

    @app.get("/flask_after_request")
    def plain() -> Any:
        return stream(flask.request.environ)

    @app.after_request
    def replace(response: Any) -> Any:
        if flask.request.path == "/flask_after_request":
            response.response = (chunk for chunk in response.response if b"for:admin" not in chunk)
        return response

    @app.get("/flask_with_context")
    def with_context() -> Any:
        response = stream(flask.request.environ)
        flask.g.word = b"secret"

        def redacted() -> Iterator[bytes]:
            for chunk in response.response:
                assert flask.request.path == "/flask_with_context"
                yield chunk.replace(flask.g.word, b"******")

        return flask.Response(flask.stream_with_context(redacted()), headers=response.headers)

    @app.get("/flask_positive")
    def positively() -> Any:
        response = stream(flask.request.environ)
        return flask.Response(positive(response.response), headers=response.headers)

    @app.get("/flask_proxied")
    @app.get("/flask_bare")
    def bare() -> Any:
        return stream(flask.request.environ)

    return app


def make_bottle() -> bottle.Bottle:
    app = bottle.Bottle()

    @app.get("/bottle")
    def events() -> Any:
        response = stream(bottle.request.environ)
        return bottle.HTTPResponse(response.response, response.status_code, list(response.headers.items()))

    return app


def replacing(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A middleware of Django's that replaces ``streaming_content``."""

    def respond(request: Any) -> Any:
        response = get_response(request)
        if request.path == "/django_replacing":
            response.streaming_content = redacting(response.streaming_content)
        return response

    return respond


def make_django() -> Any:
    def view(request: Any) -> Any:
        response = stream(request.environ)
        return StreamingHttpResponse(response.response, headers=dict(response.headers))

    urlpatterns.extend(path(name, view) for name in ("django_bare", "django_replacing"))
    settings.configure(
        SECRET_KEY="x",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        MIDDLEWARE=[f"{__name__}.replacing"],
        LOGGING_CONFIG=None,
    )
    django.setup()
    return get_wsgi_application()


flask_app, django_app = make_flask(), make_django()
APPS: dict[str, Callable[..., Any]] = {
    "flask_proxied": ProxyFix(flask_app),
    **dict.fromkeys(("flask_after_request", "flask_with_context", "flask_positive", "flask_bare"), flask_app),
    "bottle": make_bottle(),
    **dict.fromkeys(("django_bare", "django_replacing"), django_app),
}
