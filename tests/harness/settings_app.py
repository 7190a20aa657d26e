"""The app of test_worker_settings.py: a view for each thing that a worker promises to apps."""

from __future__ import annotations

import contextvars
import ctypes
import io
import os
import sys
import tempfile
import threading
import time

from sse_threaded import Hub

hub = Hub("memory://", lease=float(os.environ.get("LEASE", "600")), heartbeat=600)
go_on = threading.Event()
variable = contextvars.ContextVar("variable")
at_work = threading.Semaphore(0)
uploads = threading.Semaphore(0)


def answer(start_response, body, status="200 OK", *fields):
    start_response(status, [("Content-Length", str(len(body))), *fields])
    return [body]


def environ_view(environ, start_response):
    lines = []
    for name, value in sorted(environ.items()):
        if name.startswith("sse_threaded") or name == "gunicorn.socket":
            continue
        lines.append(f"{name}: {value!r}" if isinstance(value, (str, bool, tuple)) else name)
    return answer(start_response, "\n".join(lines).encode())


def input_view(environ, start_response):
    source, results = environ["wsgi.input"], []
    for step in environ["QUERY_STRING"].split(";"):
        name, _, size = step.partition(":")
        if name == "for":
            results.append(list(source))
        elif name == "next":
            results.append(next(source, None))
        else:
            results.append(getattr(source, name)(*[int(size)] if size else []))
    return answer(start_response, repr(results).encode())


def ignore_view(environ, start_response):
    return answer(start_response, b"ignored")


def errors_view(environ, start_response):
    stream = environ["wsgi.errors"]
    stream.write("WRITTEN")
    stream.writelines([" by", " the app\n"]) if hasattr(stream, "writelines") else stream.write(" by the app\n")
    stream.flush()
    return answer(start_response, b"written")


def file_view(environ, start_response):
    """By the query: the file's kind, where it is read from, the length that the head says, the block size."""
    kind, offset, length, block = environ["QUERY_STRING"].split(",")
    content = b"".join(b"%07d\n" % number for number in range(4000))
    source = io.BytesIO(content) if kind == "memory" else tempfile.TemporaryFile()  # noqa: SIM115
    if kind != "memory":
        source.write(content)
        source.flush()
    source.seek(int(offset))
    start_response("200 OK", [("Content-Length", length)] if length else [])
    return environ["wsgi.file_wrapper"](source, *[int(block)] if block else [])


def raises_view(environ, start_response):
    raise ValueError("at once")


def raises_late_view(environ, start_response):
    start_response("200 OK", [])
    yield b"first"
    raise ValueError("late")


def replaces_view(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    try:
        raise ValueError("on the way")
    except ValueError:
        start_response("500 Sorry", [("X-Kind", "own")], sys.exc_info())
    return [b"sorry"]


def replaces_late_view(environ, start_response):
    start_response("200 OK", [])(b"first")
    try:
        raise ValueError("on the way")
    except ValueError:
        start_response("500 Sorry", [], sys.exc_info())
    return [b"sorry"]


def twice_view(environ, start_response):
    start_response("200 OK", [])
    start_response("200 OK", [])
    return []


def never_view(environ, start_response):
    return [b"no head"]


def write_view(environ, start_response):
    write = start_response("200 OK", [("X-A", "1"), ("X-A", "2"), ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")])
    write(b"by ")
    write(b"")
    write(b"write ")
    return [b"and", b"", b" more"]


def status_view(environ, start_response):
    """By the query: the status, then a body, then the length that the head says."""
    status, body, length = environ["QUERY_STRING"].split(",")
    start_response(status.replace("+", " "), [("Content-Length", length)] if length else [])
    return [body.encode()]


def field_view(environ, start_response):
    name, value = environ["QUERY_STRING"].replace("%0A", "\n").replace("+", " ").split("=")
    return answer(start_response, b"field", "200 OK", (name, value))


def text_view(environ, start_response):
    start_response("200 OK", [])
    return ["text"]


def hints_view(environ, start_response):
    if "wsgi.early_hints" in environ:
        environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
        environ["wsgi.early_hints"]([(b"Link", b"</b.css>")])
    return answer(start_response, b"hinted")


def big_view(environ, start_response):
    size = int(environ["QUERY_STRING"])
    return answer(start_response, b"x" * size)


def big_file_view(environ, start_response):
    source = tempfile.TemporaryFile()  # noqa: SIM115
    source.truncate(int(environ["QUERY_STRING"]))
    start_response("200 OK", [("Content-Length", environ["QUERY_STRING"])])
    return environ["wsgi.file_wrapper"](source)


def context_view(environ, start_response):
    before = variable.get("unset")
    variable.set(environ["QUERY_STRING"])
    return answer(start_response, before.encode())


def parts_view(environ, start_response):
    size = int(environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Length", str(size))])
    for begin in range(0, size, 50_000):
        yield b"x" * min(50_000, size - begin)


def wait_view(environ, start_response):
    at_work.release()
    go_on.wait(60)
    return answer(start_response, b"went on")


def upload_view(environ, start_response):
    data = environ["wsgi.input"].read(1)
    uploads.release()
    return answer(start_response, b"%d" % len(data + environ["wsgi.input"].read()))


def counts_view(environ, start_response):
    return answer(start_response, b"%d %d %d" % (os.getpid(), at_work._value, uploads._value))


def go_view(environ, start_response):
    go_on.set()
    return answer(start_response, b"gone")


def hold_view(environ, start_response):
    ctypes.PyDLL(None).sleep(int(environ["QUERY_STRING"]))  # with the interpreter's lock: no thread runs
    return answer(start_response, b"held")


def process_view(environ, start_response):
    return answer(start_response, f"<{os.getpid()}|{os.environ.get('SETTING')}|{os.getcwd()}>".encode())


def exit_view(environ, start_response):
    sys.exit(7)


def exit_now_view(environ, start_response):
    os._exit(0)


class OwnError(BaseException):
    """Not an ``Exception``."""


def base_view(environ, start_response):
    raise OwnError("of the app")


def base_late_view(environ, start_response):
    start_response("200 OK", [])
    yield b"first"
    raise OwnError("of the app")


def events_view(environ, start_response):
    return hub.stream(environ, "a")(environ, start_response)


def sleep_view(environ, start_response):
    time.sleep(float(environ["QUERY_STRING"]))
    return answer(start_response, b"slept")


VIEWS = {f"/{name[:-5]}": view for name, view in list(globals().items()) if name.endswith("_view")}


def app(environ, start_response):
    view = VIEWS.get(environ["SCRIPT_NAME"] + environ["PATH_INFO"])
    return answer(start_response, b"well") if view is None else view(environ, start_response)
