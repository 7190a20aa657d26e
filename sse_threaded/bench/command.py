"""``sse-threaded bench``: its options, its run, and its output as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from .endpoint import CHANNEL, STAMP, Endpoint
from .errors import CannotBench
from .latencies import Latencies
from .load import Load, Post
from .process_tree import ProcessTree
from .results import DeliveryResult, OpenResult

# The share of a core above which the client itself may be the bottleneck.
BUSY = 0.8

_EPILOG = """\
examples:
  # 1000 streams of the task board; ten tasks a second for ten seconds, each delivered to all streams
  sse-threaded bench http://localhost:3000/boards/board-1/events \\
      --post http://localhost:3000/boards/board-1/tasks --body '{"title": "{stamp}"}'
  # open 5000 streams and only listen, for a minute
  sse-threaded bench http://localhost:8000/events --streams 5000 --seconds 60

With --post, {stamp} in the body is replaced by letters and digits that contain the time. An event is counted only
if it contains them, once. If an event reaches only some of the streams, give --channels N and write {channel} in
both URLs. Streams and events then use the channels 0 to N-1 in turn.

Use a server of your own: its other clients have to wait during the test, and the posted events stay there.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the command and its options."""
    bench = commands.add_parser(
        "bench",
        help="open many streams on a server and measure what they receive",
        description="Open many streams on a server, publish events through it, and measure how many "
        "streams open a second, how many events arrive, and how late. It works with any server of event streams.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    bench.add_argument("target", metavar="URL", help="the URL of a stream: http://host:port/path")
    bench.add_argument("--streams", type=_whole, default=1000, metavar="N", help="how many streams; default 1000")
    bench.add_argument(
        "--stalled", type=_whole_or_zero, default=0, metavar="N", help="how many of them are never read; default 0"
    )
    bench.add_argument(
        "--open-rate", type=_number, metavar="R", help="open R streams a second; default: as fast as possible"
    )
    bench.add_argument(
        "--seconds", type=_number, default=10.0, metavar="S", help="publish, or listen, for S seconds; default 10"
    )
    bench.add_argument("--post", metavar="URL", help="publish events by POST to this URL")
    bench.add_argument("--body", metavar="TEMPLATE", help="the body of the POST; {stamp} in it is replaced")
    bench.add_argument(
        "--content-type",
        default="application/json",
        metavar="TYPE",
        help="the type of the body; default %(default)s",
    )
    bench.add_argument("--rate", type=_number, default=10.0, metavar="R", help="events a second; default 10")
    bench.add_argument(
        "--burst",
        type=_whole_or_zero,
        default=0,
        metavar="N",
        help="then publish N events as fast as the server takes them, 8 at once; default 0",
    )
    bench.add_argument(
        "--channels",
        type=_whole,
        default=1,
        metavar="N",
        help="how many channels: numbers for {channel} in the URLs; default 1",
    )
    bench.add_argument("--last-event-id", metavar="ID", help="the streams resume after this event")
    bench.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="send this header field too; may be repeated",
    )
    bench.add_argument(
        "--pid",
        type=_whole,
        help="the server's main process on this machine: measure its processor time and memory too (Linux)",
    )
    bench.add_argument(
        "--processes",
        type=_whole,
        default=1,
        metavar="N",
        help="how many processes of the client hold streams, each on one core; default 1",
    )
    bench.add_argument("--json", action="store_true", help="print the figures as JSON")
    bench.set_defaults(run=run)
    return bench


def run(options: argparse.Namespace) -> int:
    """Run the command and print the result."""
    endpoint = Endpoint(options.target, options.header)
    post = _post(options)
    if options.stalled > options.streams:
        raise CannotBench(
            f"--stalled {options.stalled} of --streams {options.streams}: that is more than there are"
        )
    if endpoint.channels_vary != (options.channels > 1):
        raise CannotBench(f"--channels and {CHANNEL} in the URL go together")
    tree = ProcessTree(options.pid) if options.pid is not None else None
    bar = _Bar(sys.stderr.isatty() and not options.json)
    found: dict[str, Any] = {"url": options.target, "streams": options.streams, "stalled": options.stalled}
    with Load(options.processes, bar.tell) as load:
        before = tree.pss_kb() if tree else 0
        bar.begin("opening", options.streams)
        opened = load.open(
            endpoint,
            options.streams,
            channels=options.channels,
            stalled=options.stalled,
            rate=options.open_rate,
            last_event_id=options.last_event_id,
        )
        used = tree.processor_ns() if tree else 0
        if post is None:
            bar.begin("listening", None)
            delivered = load.listen(options.seconds)
        else:
            bar.begin("publishing", round(options.seconds * options.rate))
            count = max(1, round(options.seconds * options.rate))
            delivered = load.publish(post, channels=options.channels, count=count, rate=options.rate)
        burst = None
        if tree:
            found |= _usage(tree.processor_ns() - used, tree.pss_kb() - before, delivered, options)
        if post is not None and options.burst:
            bar.begin("burst", options.burst)
            burst = load.publish(post, channels=options.channels, count=options.burst, burst=True)
        bar.end()
    found |= _figures(opened, delivered, burst)
    print(json.dumps(found) if options.json else table(found))  # noqa: T201
    for note in notes(found):
        print(f"sse-threaded: {note}", file=sys.stderr)  # noqa: T201
    return 0


def _post(options: argparse.Namespace) -> Post | None:
    if options.post is None:
        if options.burst or options.body is not None:
            raise CannotBench("--body and --burst need --post URL, to which events are published")
        return None
    if options.body is None:
        raise CannotBench(f'--post needs --body, such as \'{{"title": "{STAMP}"}}\'')
    return Post(Endpoint(options.post, options.header), options.body, options.content_type)


def _usage(
    processor_ns: int, pss_kb: int, delivered: DeliveryResult, options: argparse.Namespace
) -> dict[str, Any]:
    per = processor_ns / 1000 / delivered.deliveries if delivered.published and delivered.deliveries else None
    return {
        "server_us_per_delivery": per,
        "server_share": processor_ns / 1e9 / max(1e-9, delivered.seconds),
        "server_kb_per_stream": pss_kb / options.streams,
    }


def _figures(opened: OpenResult, delivered: DeliveryResult, burst: DeliveryResult | None) -> dict[str, Any]:
    last = burst or delivered
    figures: dict[str, Any] = {
        "open_seconds": opened.seconds,
        "opened_per_second": opened.rate,
        "open_at_end": last.open,
        "ended": last.ended,
        "published": delivered.published,
        "deliveries": delivered.deliveries,
        "deliveries_expected": delivered.expected if delivered.published else None,
        "deliveries_per_second": delivered.rate,
        "latency_ms": percentiles(delivered.latencies) if delivered.published else None,
        "burst": None,
        "client_share": max(opened.share, delivered.share, burst.share if burst else 0.0),
        "client_share_opening": opened.share,
        "client_share_delivering": delivered.share,
    }
    if burst is not None:
        figures["burst"] = {
            "published": burst.published,
            "published_per_second": burst.publish_rate,
            "deliveries": burst.deliveries,
            "deliveries_expected": burst.expected,
            "deliveries_per_second": burst.rate,
            "client_share": burst.share,
        }
    return figures


def percentiles(latencies: Latencies) -> dict[str, float | None]:
    """Return p50, p99 and the maximum, in milliseconds."""
    return {name: latencies.percentile(share) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}


def table(found: dict[str, Any]) -> str:
    """Return the figures as a table for people."""
    took = f"{found['open_seconds']:.2f} s, {found['opened_per_second']:.0f} a second"
    rows = [("streams", f"{found['streams']} opened in {took}")]
    if found["stalled"]:
        rows.append(("stalled", f"{found['stalled']} of them are never read"))
    if found["ended"]:
        rows.append(("ended", f"{found['ended']} by the server, {found['open_at_end']} are open"))
    if found["published"]:
        rows.append(("deliveries", _delivered(found)))
        rows.append(("latency", _spread(found["latency_ms"])))
    else:
        rows.append(("data lines", f"{found['deliveries']}, {found['deliveries_per_second']:.0f} a second"))
    if burst := found["burst"]:
        rows.append(("burst", _delivered(burst)))
    if "server_share" in found:
        per = found["server_us_per_delivery"]
        share = f"{100 * found['server_share']:.1f} % of a core"
        rows.append(("server", share if per is None else f"{per:.1f} µs of processor a delivery, {share}"))
        rows.append(("memory", f"{found['server_kb_per_stream']:.1f} KB a stream (PSS)"))
    opening, delivering = found["client_share_opening"], found["client_share_delivering"]
    rows.append(("client", f"{100 * opening:.0f} % of a core while opening, {100 * delivering:.0f} % afterwards"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {figure}" for name, figure in rows)


def _delivered(part: dict[str, Any]) -> str:
    of = f"{part['deliveries']} of {part['deliveries_expected']}"
    return f"{of}, {part['deliveries_per_second']:.0f} a second, of {part['published']} events"


def _spread(latency_ms: dict[str, float | None]) -> str:
    parts = [f"{name} {value:.1f} ms" for name, value in latency_ms.items() if value is not None]
    return ", ".join(parts) or "unknown, as there was no delivery"


def notes(found: dict[str, Any]) -> list[str]:
    """Return what a reader of the figures must know, one sentence each."""
    said = []
    for part in filter(None, (found, found["burst"])):
        got, expected = part["deliveries"], part["deliveries_expected"]
        if expected is not None and not got:
            said.append(
                "no event came with its stamp: does --post publish to these streams, and do they contain {stamp}?"
            )
        elif expected is not None and got < expected:
            said.append(f"{expected - got} deliveries are missing: streams ended, or events did not come")
        elif expected is not None and got > expected:
            said.append("there are more deliveries than expected: the events contain their stamp more than once")
    if found["ended"]:
        said.append(
            f"the server ended {found['ended']} streams; a server at its limit of streams does that at once"
        )
    if found["client_share"] > BUSY:
        said.append(
            f"the client used {100 * found['client_share']:.0f} % of a core: it may be the bottleneck; "
            "try --processes 2, or see its shares with --json"
        )
    return said


class _Bar:
    """A progress bar on a terminal."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._what = ""
        self._total: int | None = None

    def begin(self, what: str, total: int | None) -> None:
        self._what, self._total = what, total
        self.tell(0)

    def tell(self, count: int) -> None:
        if not self._shown:
            return
        text = f"{self._what} {count}"
        if self._total:
            done = min(30, 30 * count // self._total)
            text = f"{self._what:<10} [{'#' * done:<30}] {count} of {self._total}"
        sys.stderr.write(f"\r{text}\x1b[K")
        sys.stderr.flush()

    def end(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _whole_or_zero(text: str) -> int:
    return 0 if text == "0" else _whole(text)
