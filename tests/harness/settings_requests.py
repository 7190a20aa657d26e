"""Requests of all kinds, each with a name, for servers that are to answer them alike.

The views are those of :mod:`.settings_app`.
"""

from __future__ import annotations

import struct


def get(target, *fields, method=b"GET", version=b"1.1"):
    lines = [b"%b %b HTTP/%b" % (method, target, version), b"Host: x", *fields]
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def post(target, body, *fields):
    return get(target, b"Content-Length: %d" % len(body), *fields, method=b"POST") + body


def chunked(target, *pieces, end=b"0\r\n\r\n"):
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return b"".join([get(target, b"Transfer-Encoding: chunked", method=b"POST"), *chunks, end])


TEXT = b"one\ntwo\r\nthree\n\nfour"
PROXY_1 = b"PROXY TCP4 10.1.1.1 10.2.2.2 1234 80\r\n"
PROXY_2 = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes([10, 1, 1, 1, 10, 2, 2, 2]) + struct.pack("!HH", 1234, 80)
)
PROXY_2_LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"

REQUESTS = {
    "plain": get(b"/environ"),
    "query": get(b"/environ?a=b%20c&d"),
    "percent": get(b"/environ".replace(b"v", b"%76")),
    "utf8": get("/ä".encode()),
    "fragment": get(b"/environ?x#frag"),
    "slashes": get(b"//environ"),
    "absolute": get(b"http://other/environ?a"),
    "star": get(b"*", method=b"OPTIONS"),
    "options": get(b"/environ", method=b"OPTIONS"),
    "connect": get(b"x:80", method=b"CONNECT"),
    "post": post(b"/environ", b"abc", b"Content-Type: text/plain"),
    "put": get(b"/environ", method=b"PUT"),
    "custom method": get(b"/environ", method=b"PURGE"),
    "lower method": get(b"/environ", method=b"get"),
    "odd method": get(b"/environ", method=b"a#b"),
    "head": get(b"/", method=b"HEAD"),
    "head write": get(b"/write", method=b"HEAD"),
    "1.0": get(b"/environ", version=b"1.0"),
    "1.0 keep": get(b"/environ", b"Connection: keep-alive", version=b"1.0"),
    "1.0 keep chunk": get(b"/write", b"Connection: keep-alive", version=b"1.0"),
    "1.2": get(b"/environ", version=b"1.2"),
    "2.0": get(b"/environ", version=b"2.0"),
    "no host": b"GET /environ HTTP/1.1\r\n\r\n",
    "two hosts": get(b"/environ", b"Host: y"),
    "close": get(b"/environ", b"Connection: close"),
    "keep": get(b"/environ", b"Connection: Keep-Alive"),
    "conn list": get(b"/environ", b"Connection: a, close"),
    "repeated": get(b"/environ", b"X-A: 1", b"X-A: 2"),
    "cookies": get(b"/environ", b"Cookie: a=1", b"Cookie: b=2"),
    "latin": get(b"/environ", b"X-A: \xe4\xff"),
    "tab": get(b"/environ", b"X-A:\t a\tb \t"),
    "empty": get(b"/environ", b"X-A:"),
    "underscore": get(b"/environ", b"X_A: 1"),
    "both": get(b"/environ", b"X_A: 1", b"X-A: 2"),
    "space in name": get(b"/environ", b"X A: 1"),
    "space after name": get(b"/environ", b"X-A : 1"),
    "no colon": get(b"/environ", b"X-A"),
    "folding": get(b"/environ", b"X-A: 1", b" more"),
    "nul": get(b"/environ", b"X-A: \0"),
    "bare lf": b"GET / HTTP/1.1\nHost: x\n\n",
    "proto": get(b"/environ", b"X-Forwarded-Proto: https"),
    "proto http": get(b"/environ", b"X-Forwarded-Proto: http"),
    "ssl on": get(b"/environ", b"X-Forwarded-Ssl: on"),
    "contradiction": get(b"/environ", b"X-Forwarded-Proto: https", b"X-Forwarded-Ssl: off"),
    "script": get(b"/environ", b"SCRIPT_NAME: /env"),
    "script off": get(b"/environ", b"SCRIPT_NAME: /other"),
    "path info": get(b"/environ", b"PATH_INFO: /other"),
    "remote user": get(b"/environ", b"REMOTE_USER: me"),
    "long line": get(b"/environ?" + b"x" * 400),
    "longest line": get(b"/environ?" + b"x" * (300 - len(b"GET /environ? HTTP/1.1"))),
    "longest line+1": get(b"/environ?" + b"x" * (301 - len(b"GET /environ? HTTP/1.1"))),
    "longest line+2": get(b"/environ?" + b"x" * (302 - len(b"GET /environ? HTTP/1.1"))),
    "longest line+3": get(b"/environ?" + b"x" * (303 - len(b"GET /environ? HTTP/1.1"))),
    **{f"fields {n}": get(b"/environ", *[b"X-%d: 1" % i for i in range(n)]) for n in (8, 9, 10, 11)},
    **{
        f"field size {n}": get(b"/environ", b"X-A: " + b"x" * (n - 5)) for n in (197, 198, 199, 200, 201, 202, 203)
    },
    "expect": get(b"/environ", b"Expect: 100-continue"),
    "expect body": post(b"/input?read", b"abc", b"Expect: 100-continue"),
    "expect 1.0": get(b"/environ", b"Expect: 100-continue", version=b"1.0"),
    "expect other": get(b"/environ", b"Expect: 200-ok"),
    "te gzip": get(b"/environ", b"Transfer-Encoding: gzip", method=b"POST"),
    "te and cl": get(b"/environ", b"Transfer-Encoding: chunked", b"Content-Length: 3", method=b"POST")
    + b"0\r\n\r\n",
    "cl twice": get(b"/environ", b"Content-Length: 3", b"Content-Length: 3", method=b"POST") + b"abc",
    "cl minus": get(b"/environ", b"Content-Length: -1", method=b"POST"),
    "cl plus": get(b"/environ", b"Content-Length: +1", method=b"POST"),
    "te 1.0": get(b"/environ", b"Transfer-Encoding: chunked", version=b"1.0", method=b"POST") + b"0\r\n\r\n",
    "upgrade": get(b"/environ", b"Upgrade: websocket", b"Connection: Upgrade"),
    "h2c": get(
        b"/environ", b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABkAAQAAP__"
    ),
    "empty lines first": b"\r\n\r\n" + get(b"/environ"),
    "garbage": b"\x16\x03\x01\x00\r\n\r\n",
    "chunked": chunked(b"/input?read", b"ab", b"cde"),
    "chunked trailer": chunked(b"/input?read", b"ab", end=b"0\r\nX-T: 1\r\n\r\n"),
    "chunked environ": chunked(b"/environ", b"ab"),
    "chunked bad": chunked(b"/input?read", b"ab", end=b"zz\r\n\r\n"),
    "chunked bad ignored": chunked(b"/ignore", b"ab", end=b"zz\r\n\r\n"),
    "ignored": post(b"/ignore", b"abc"),
    "ignored long": post(b"/ignore", b"a" * 60000),
    "ignored longer": post(b"/ignore", b"a" * 200_000),
    "ignored chunked": chunked(b"/ignore", b"abc"),
    "get body": get(b"/input?read", b"Content-Length: 3") + b"abc",
    **{
        f"input {q.decode()} {kind.__name__}": kind(b"/input?" + q, TEXT)
        for q in (
            b"read",
            b"read;read",
            b"read:3;read:0;read:100;read:1",
            b"read:-1",
            b"readline;readline;read",
            b"readline:2;readline:100;readline:0;readline:-1;for",
            b"for",
            b"for;for;read",
            b"next;next;read:2;for",
            b"readlines",
            b"readlines:4;read",
            b"readlines:0",
            b"read:2;readlines",
            b"read;readline;next;readlines",
        )
        for kind in (post, chunked)
    },
    "input none": get(b"/input?read;readline;for;next;readlines"),
    "errors": get(b"/errors"),
    **{
        f"file {q.decode()} {v.decode()}": get(b"/file?" + q, version=v)
        for v in (b"1.1", b"1.0")
        for q in (
            b"disk,0,,",
            b"disk,100,,",
            b"disk,0,500,",
            b"disk,100,500,",
            b"disk,31990,10,",
            b"disk,0,0,",
            b"disk,0,32000,",
            b"disk,100,40000,",
            b"disk,0,40000,",
            b"memory,0,,",
            b"memory,100,,",
            b"memory,100,500,",
            b"memory,0,,10",
            b"disk,0,,10",
            b"disk,32000,,",
        )
    },
    "file head": get(b"/file?disk,0,,", method=b"HEAD"),
    "file head cl": get(b"/file?disk,0,500,", method=b"HEAD"),
    "raises": get(b"/raises"),
    "raises late": get(b"/raises_late"),
    "replaces": get(b"/replaces"),
    "replaces late": get(b"/replaces_late"),
    "twice": get(b"/twice"),
    "never": get(b"/never"),
    "write": get(b"/write"),
    "write 1.0": get(b"/write", version=b"1.0"),
    **{
        f"status {q.decode()}": get(b"/status?" + q)
        for q in (
            b"204+No,,",
            b"204+No,x,1",
            b"304+Not,x,",
            b"304+Not,,5",
            b"200+OK,abc,2",
            b"200+OK,abc,5",
            b"200+OK,,",
            b"200+OK,,0",
            b"404,x,1",
            b"OK,x,1",
            b"200+OK,x,-1",
            b"200+OK,x,a",
            b"101+Switch,,",
            b"20+OK,,",
            b"299+Own+text,x,1",
        )
    },
    **{
        f"field {q.decode()}": get(b"/field?" + q)
        for q in (
            b"X-A=b",
            b"X-A=a%0Ab",
            b"X+A=b",
            b"=b",
            b"Server=own",
            b"Date=own",
            b"Connection=close",
            b"Connection=upgrade",
            b"Upgrade=websocket",
            b"Upgrade=h2c",
            b"Transfer-Encoding=gzip",
            b"Keep-Alive=5",
            b"Content-Encoding=gzip",
            b"Content-Length=3",
        )
    },
    "text": get(b"/text"),
    "hints": get(b"/hints"),
    "hints 1.0": get(b"/hints", version=b"1.0"),
    "proxy v1": PROXY_1 + get(b"/environ"),
    "proxy v1 unknown": b"PROXY UNKNOWN\r\n" + get(b"/environ"),
    "proxy v1 bad": b"PROXY TCP4 10.1.1.1\r\n" + get(b"/environ"),
    "proxy v2": PROXY_2 + get(b"/environ"),
    "proxy v2 local": PROXY_2_LOCAL + get(b"/environ"),
    "proxy second": get(b"/last") + PROXY_1 + get(b"/environ"),
}
