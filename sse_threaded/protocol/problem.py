"""Errors as ``application/problem+json`` (RFC 9457), for the library's own answers and for apps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from werkzeug.wrappers import Response


def problem(
    status: int,
    detail: str,
    headers: dict[str, str] | None = None,
    *,
    members: Mapping[str, Any] | None = None,
) -> Response:
    """Return the response for an error. A program knows it by its status, and a person can act on its sentence.

    The members are those of RFC 9457, section 3.1. ``type`` is left out, which means ``about:blank``: the status
    says everything.

    :param status: the HTTP status code.
    :param detail: one sentence, with the mistake and the correct request.
    :param headers: further headers, such as ``Allow`` or ``Retry-After``; default none.
    :param members: further members for programs (section 3.2); default none.
    """
    body = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail, **(members or {})}
    text = json.dumps(body, ensure_ascii=False) + "\n"
    response = Response(text, status, content_type="application/problem+json")
    response.headers.extend(headers or {})
    response.headers["Cache-Control"] = "no-store"
    return response
