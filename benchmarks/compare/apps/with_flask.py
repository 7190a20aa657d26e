"""This package in Flask: one view returns the stream, the other one publishes."""

import os

from flask import Flask, request

from sse_threaded import Hub

hub = Hub(os.environ["BENCH_LOG"])
app = Flask(__name__)


@app.get("/events")
def events():
    """Answer with a stream."""
    return hub.stream(request, request.args["channel"])


@app.post("/publish")
def publish():
    """Publish each line of the body."""
    lines = request.get_data(as_text=True).split("\n")
    if len(lines) == 1:
        hub.publish(request.args["channel"], lines[0])
    else:
        with hub.log.transaction() as transaction:
            for line in lines:
                transaction.append(request.args["channel"], line)
    return "", 204
