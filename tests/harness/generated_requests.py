"""Requests as bytes, for tests that compare two servers: as browsers and proxies send them, and hostile ones.

The same seed gives the same requests.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

# The settings of gunicorn that change how a request is read. Each draw takes one of these dictionaries.
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {},
    {"strip_header_spaces": True},
    {"permit_obsolete_folding": True},
    {"permit_unconventional_http_method": True, "casefold_http_method": True},
    {"permit_unconventional_http_version": True},
    {"header_map": "refuse"},
    {"header_map": "dangerous"},
    {"forwarder_headers": "*"},
    {"forwarder_headers": "SCRIPT_NAME,REMOTE_USER", "forwarded_allow_ips": "10.0.0.0/8,::1"},
    {"forwarded_allow_ips": "*"},
    {"forwarded_allow_ips": ""},
    {"forwarded_allow_ips": "*", "secure_scheme_headers": {"X-FORWARDED-PROTO": "https", "FRONT-END-HTTPS": "on"}},
    {"forwarded_allow_ips": "*", "secure_scheme_headers": {"X_FORWARDED_PROTO": "https", "X-SCHEME": "https"}},
    {"forwarded_allow_ips": "*", "secure_scheme_headers": {"X-SCHEME": "", "X-FORWARDED-PROTO": " https"}},
    {"forwarded_allow_ips": "*", "secure_scheme_headers": {"X-SCHEME": "höchst", "X-FORWARDED-PROTO": "\u20ac"}},
    {"forwarded_allow_ips": "*", "secure_scheme_headers": {"CONTENT-TYPE": "text/https", "CONNECTION": "close"}},
    {"forwarded_allow_ips": "*", "secure_scheme_headers": {"CONTENT-LENGTH": "5", "X-SCHEME": "https"}},
    {"secure_scheme_headers": {}},
    {"limit_request_line": 60, "limit_request_fields": 5, "limit_request_field_size": 40},
    {"limit_request_line": 60, "limit_request_field_size": 24},
    {"limit_request_line": 60},
    {"limit_request_fields": 5},
    {"limit_request_field_size": 40},
    {"limit_request_line": 0, "limit_request_fields": 0, "limit_request_field_size": 0},
    {"proxy_protocol": "auto", "proxy_allow_ips": "*"},
    {"proxy_protocol": "auto"},
    {"workers": 3},
)

# Addresses as accept() and getsockname() give them. Unix sockets have text or bytes.
CLIENTS: tuple[Any, ...] = (
    ("127.0.0.1", 40001),
    ("127.0.0.1", 40002),
    ("10.1.2.3", 50000),
    ("203.0.113.9", 50001),
    ("::1", 40003, 0, 0),
    ("2001:db8::5", 40004, 0, 0),
    ("fe80::1%2", 40005, 0, 2),
    ("::ffff:10.1.2.3", 40006, 0, 0),
    "",
    "/run/client.sock",
    b"",
    b"\0abstract",
)
SERVERS: tuple[Any, ...] = (
    ("127.0.0.1", 8000),
    ("0.0.0.0", 80),
    ("::", 8000, 0, 0),
    "/run/app.sock",
    "/run/app:1.sock",
    b"\0abstract",
)

METHODS = (b"GET", b"GET", b"GET", b"POST", b"HEAD", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")
ODD_METHODS = (
    b"get", b"Get", b"G", b"GE", b"CONNECT", b"TRACE", b"PRI", b"GET\t", b" GET", b"GET#", b"G\xc9T", b"G@T",
    b"", b"PROPFIND", b"X" * 20, b"X" * 21, b"GET\0", b"GET\r", b"\xefGET", b"M-SEARCH", b"HEAD ", b"PROXY",
    b"POST\n",
)  # fmt: skip

TARGETS = (
    b"/", b"/", b"/events", b"/a/b?c=d&e=f", b"/?q=%20", b"/%C3%A9t%C3%A9", b"/a%2Fb", b"/a%00b", b"/%",
    b"/%zz", b"/a;v=1", b"/a:b@c", b"/a[1]", b"/a?b?c", b"/a?", b"/.", b"/../x", b"/a//b", b"/a/./b/", b"/a\\b",
    b"/a|b", b"/'\"<>^`{}~!$&()*+,;=", b"/?%", b"/?a=b/c//d", b"/a?//b", b"/:80/", b"/a%3Fb", b"/a%23b",
    b"/%2e%2e/x",
)  # fmt: skip
ODD_TARGETS = (
    b"//", b"//host/path", b"///", b"*", b"a", b"http://host/path?x", b"http://", b"https://[::1", b"host:443",
    b"/a#b", b"/a?b#c", b"#", b"?", b"", b"/a b", b"/a\tb", b"/\xc3\xa9", b"/\x7f", b"/a\0", b"/\r", b"/\n",
    b"/a ", b" /a", b"//[", b"//[::1]/", b"//a]b", b"/[", b"javascript:x", b"/\x0b", b"//a?b#c", b"/a\x85b",
    b"/ HTTP/1.1", b"..//", b"/" + b"a" * 4100, b"/" + b"a" * 8170, b"//" + b"/" * 50, b"/a\r\nX: y",
    b"http:///x", b"/\xa0",
)  # fmt: skip

VERSIONS = (b"HTTP/1.1",) * 8 + (b"HTTP/1.0",)
ODD_VERSIONS = (
    b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/1.1 ", b" HTTP/1.1", b"http/1.1", b"HTTP/11", b"HTTP/1.10",
    b"", b"HTTP/1.", b"HTTP/1.\xb9", b"HTTP/1,1", b"HTTP/1.1\t", b"HTTP/1.1\0", b"HTTP/1.1\r", b"HTTPS/1.1",
    b"HTTP/3.0", b"HTTP/1.1\n", b"HTTP/01.1", b"HTTP/1.1 HTTP/1.1", b"HTTP/\xd9\xa1.1", b"ICY", b"HTTP/1.9",
)  # fmt: skip

# Fields of honest clients and of the proxies before a server.
FIELDS = (
    b"Host: example.org", b"Host: example.org:8080", b"Host: [::1]:80", b"Host: a:b:c", b"Host:", b"host: x",
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", b"Accept: */*",
    b"Accept-Encoding: gzip, deflate, br, zstd", b"Accept-Language: de,en;q=0.5", b"Cookie: a=b; c=\"d\"",
    b"Connection: keep-alive", b"Connection: close", b"Cache-Control: no-cache", b"Last-Event-ID: abcdef-17",
    b"X-Forwarded-For: 203.0.113.7", b"X-Forwarded-Proto: https", b"X-Forwarded-Proto: http",
    b"X-Forwarded-Protocol: ssl", b"X-Forwarded-Ssl: on", b"X-Forwarded-Host: shop.example", b"X-Scheme: https",
    b"X-Real-IP: 203.0.113.7", b"X-Forwarded-Port: 443", b"Forwarded: for=203.0.113.7;proto=https",
    b"Via: 1.1 x", b"Origin: https://shop.example", b"Referer: https://shop.example/a?b",
    b"Sec-Fetch-Mode: cors", b"DNT: 1", b"Content-Type: application/json", b"Authorization: Bearer a.b-c_d",
    b"If-None-Match: W/\"x\"", b"TE: trailers", b"X-Empty:", b"X-Spaces:  \t a b \t ", b"X-Tab:\ta\tb",
    b"X-Latin: \xe4\xf6\xfc\x80\xff", b"Front-End-Https: on", b"Keep-Alive: timeout=5", b"Priority: u=1, i",
    b"Range: bytes=0-", b"X-Colon: a:b::c", b"X:y",
)  # fmt: skip

# Fields that a server has to refuse, to leave out, or to read in one way only.
ODD_FIELDS = (
    b"Content-Length: 5", b"Content-Length: +5", b"Content-Length: -5", b"Content-Length: 0x5",
    b"Content-Length:", b"Content-Length: 5, 5", b"Content-Length: 5 5", b"Content-Length: 05",
    b"Content-Length: 5_0", b"Content-Length: 99999999999999999999", b"Content-Length: \xb2",
    b"Content-Length: \xd9\xa5", b"Content-Length: 5\0", b"Content-Length: 5.0", b"Content-Length: 1e1",
    b"Content-Length: 0", b"Content-Length: 0, 5", b"CONTENT-LENGTH: 5", b"Content-Length: 000000000000005",
    b"Content-Length: \t5\t", b"Content-Length : 5", b"Content_Length: 5", b"Content-Length: 5;x",
    b"Content-Length: \x0b5", b"Content-Length: 5\x85", b"Content-Length: 5\xa0", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: \"chunked\"", b"Transfer-Encoding: CHUNKED", b"Transfer-Encoding : chunked",
    b"Transfer-Encoding\t: chunked", b"Transfer_Encoding: chunked", b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding:", b"Transfer-Encoding: gzip", b"TRANSFER-ENCODING: chunked",
    b"Transfer-Encoding: ,chunked", b"Transfer-Encoding: chun\tked", b"Transfer-Encoding:\tchunked",
    b" Transfer-Encoding: chunked", b"X: y\nTransfer-Encoding: chunked", b"X: y\rTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r", b"Transfer-Encodin\xe7: chunked", b"Transfer-Encoding:chunked\0",
    b"Expect: 100-continue", b"Expect: 100-Continue", b"Expect: 200-ok", b"Expect:", b"expect: 100-continue, x",
    b"Connection: Close", b"Connection: CLOSE\t", b"Connection: close, x", b"Connection: Keep-Alive",
    b"Connection: keep-alive, close", b"Connection:", b"Connection: upgrade",
    b"Connection: Upgrade, HTTP2-Settings", b"Connection : close", b"Proxy-Connection: close",
    b"Connection: close;", b"Connection: \xe7lose", b"Connection: transfer-encoding",
    b"Connection: x-forwarded-proto", b"Upgrade: websocket", b"Upgrade: h2c",
    b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA", b"Trailer: Host", b"SCRIPT_NAME: /app", b"Script_Name: /",
    b"Script-Name: /a", b"REMOTE_USER: admin", b"Remote_Addr: 1.2.3.4", b"X_Forwarded_For: 127.0.0.1",
    b"X_Forwarded_Proto: https", b"X-Forwarded_Proto: https", b"Path_Info: /admin", b"Remote-User: admin",
    b"Proxy: evil.example", b"Wsgi.Url_Scheme: https", b"HTTP_HOST: x", b"X-Forwarded-Proto: HTTPS",
    b"X-Forwarded-Proto: https, http", b"X-Forwarded-Proto: https\t", b"X-Forwarded-Proto:https",
    b"X-Forwarded-Proto:", b"X-Forwarded-Ssl: off", b"X-Forwarded-Protocol: https", b"x-forwarded-proto: https",
    b"X-Forwarded-Proto : https", b"Front-End-Https: off", b"X-Scheme:", b"X-Scheme: h\xf6chst",
    b"Content-Type: text/https", b"Content-Type:", b"Host: other.example", b"Host: a b", b"Host: a, b",
    b"Host: a/b@c", b"Host: \xe4", b"Host : x", b"Host: x\x00", b"NoColon", b": no name", b":", b"", b" ",
    b"\t", b"X : y", b"X\t: y", b"X Y: z", b" X: y", b"\tX: y", b"X@Y: z", b"X: y\r", b"X: y\n", b"\nX: y",
    b"X: y\n Z: w", b"X: a\0b", b"X: a\x01b", b"X: a\x7fb", b"X: \x0b", b"X\0: y", b"X\xdf: y", b"\xdf: y",
    b"X: y\r\n folded", b"X: y\r\n\tfolded", b"X: y\r\n ", b"\xef\xbb\xbfX: y", b"X\r: y", b"X: \xa0y\xa0",
    b"X: \x85", b"X:" + b" " * 300, b"X: a" + b" " * 60 + b"\0", b"(X): y", b"X[]: y", b"X/Y: z", b"X\"Y: z",
    b"X,Y: z", b"X=Y: z", b"{X}: y", b"!#$%&'*+-.^`|~: odd but valid", b"X-\xb2: y", b"HTTP/1.1: y",
    b"GET / HTTP/1.1", b"X: " + b"y" * 22, b"X: " + b"y" * 35, b"X: " + b"y" * 36, b"X: " + b"y" * 4000,
    b"X: " + b"y" * 8183, b"X: " + b"y" * 8186, b"X: " + b"y" * 8192, b"X" * 300 + b": y",
)  # fmt: skip

ODD_BYTES = b"\0\t\n\x0b\r :;,_-\x1c\x7f\x80\x85\xa0\xad\xdf\xff/#?%*HG15"

PROXY_LINES = (
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n",
    b"PROXY TCP6 2001:db8::1 2001:db8::2 1000 2000\r\n",
    b"PROXY UNKNOWN\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 99999\r\n",
    b"PROXY TCP4 192.0.2.300 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\x03\xe8\x07\xd0",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04abcd",
)


class GeneratedRequest(NamedTuple):
    """One request, or what looks like one.

    :ivar is_plain: whether it is what honest clients send.
    :ivar settings: the index of gunicorn's settings in :data:`SETTINGS`.
    :ivar client: the peer's address.
    :ivar server: the listener's.
    :ivar number: which request of its connection it is.
    :ivar data: its bytes.
    """

    is_plain: bool
    settings: int
    client: Any
    server: Any
    number: int
    data: bytes


def generate(seed: int, count: int) -> list[GeneratedRequest]:
    """So many requests; a fifth of them are plain."""
    draw = random.Random(seed)
    return [_plain(draw) if draw.random() < 0.2 else _hostile(draw) for _ in range(count)]


def _place(draw: random.Random) -> tuple[int, Any, Any, int]:
    number = 1 if draw.random() < 0.5 else 2
    return draw.randrange(len(SETTINGS)), draw.choice(CLIENTS), draw.choice(SERVERS), number


def _lines(draw: random.Random, most: int) -> list[bytes]:
    """Different fields, at most so many."""
    found: dict[bytes, bytes] = {}
    for line in draw.sample(FIELDS, draw.randint(0, most)):
        found.setdefault(line.partition(b":")[0].lower(), line)
    return list(found.values())


def _start(draw: random.Random) -> list[bytes]:
    return [draw.choice(METHODS), draw.choice(TARGETS), draw.choice(VERSIONS)]


def _message(start: list[bytes], lines: list[bytes], body: bytes) -> bytes:
    return b"\r\n".join([b" ".join(start), *lines, b"", body])


def _plain(draw: random.Random) -> GeneratedRequest:
    _, client, server, number = _place(draw)
    lines = [line for line in _lines(draw, 10) if not line.startswith((b"Front", b"X-Scheme", b"X-Forwarded-S"))]
    lines = [line for line in lines if not line.startswith(b"X-Forwarded-Protocol")]
    start, body = _start(draw), b""
    if start[0] in (b"POST", b"PUT", b"PATCH"):
        body = draw.randbytes(draw.choice((0, 1, 5, 300)))
        lines.insert(draw.randint(0, len(lines)), b"Content-Length: %d" % len(body))
    return GeneratedRequest(True, 0, client, server, number, _message(start, lines, body))


def _hostile(draw: random.Random) -> GeneratedRequest:
    settings, client, server, number = _place(draw)
    start, lines, body = _start(draw), _lines(draw, 6), b""
    if draw.random() < 0.3:
        body = draw.randbytes(draw.choice((1, 5, 5, 5, 50)))
        lines.append(b"Content-Length: %d" % (len(body) + draw.choice((0, 0, 0, 0, 1, -1))))
    elif draw.random() < 0.3:
        body = draw.choice(
            (b"5\r\nabcde\r\n0\r\n\r\n", b"abcde", b"0\r\n\r\n", b"5;x\r\nabcde\r\n0\r\nX: y\r\n\r\n")
        )
    for _ in range(draw.choice((0, 1, 1, 1, 1, 2, 2, 3))):
        kind = draw.random()
        if kind < 0.45:
            lines.insert(draw.randint(0, len(lines)), draw.choice(ODD_FIELDS))
        elif kind < 0.55 and lines:
            lines.insert(draw.randint(0, len(lines)), _varied(draw, draw.choice(lines)))
        elif kind < 0.65:
            at = draw.randrange(3)
            start[at] = draw.choice((ODD_METHODS, ODD_TARGETS, ODD_VERSIONS)[at])
        elif kind < 0.7:
            lines += [b"X-%d: y" % at for at in range(draw.choice((4, 5, 6, 49, 50, 51, 99, 100, 101)))]
        elif kind < 0.75:
            start[1] = b"/" + b"x" * draw.choice((44, 45, 46, 47, 48, 3990, 4000, 8175, 8176, 8177))
    data = _message(start, lines, body)
    for _ in range(draw.choice((0, 0, 0, 1, 1, 2))):
        data = _damaged(draw, data)
    return GeneratedRequest(False, settings, client, server, number, data)


def _varied(draw: random.Random, line: bytes) -> bytes:
    """The same field once more, in another way."""
    name, _, value = line.partition(b":")
    name = draw.choice((name, name.upper(), name.lower(), name.replace(b"-", b"_"), name + b" "))
    return (
        name + b":" + draw.choice((value, b"", value.upper(), b" other", value + b" ", b"\t" + value, value[::-1]))
    )


def _damaged(draw: random.Random, data: bytes) -> bytes:
    at = draw.randint(0, len(data))
    odd = bytes([draw.choice(ODD_BYTES)])
    line = draw.choice((b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b"\0"))
    behind = draw.choice((b"GET /2 HTTP/1.1\r\n\r\n", b"\r\n", b"x", b"\0", data))
    line_end = draw.choice((b"\n", b"\r", b"\r\r\n", b"\n\r"))
    colon = draw.choice((b":", b":\t", b" : ", b":\0", b": :", b":  "))
    return draw.choice(
        (
            data[:at] + odd + data[at:],
            data[:at] + odd + data[at + 1 :],
            data[:at] + data[at + 1 :],
            data[:at],
            line + data,
            draw.choice(PROXY_LINES) + data,
            data + behind,
            data.replace(b"\r\n", line_end, draw.randint(1, 3)),
            data.replace(b": ", colon, draw.randint(1, 3)),
        )
    )


def _honest(start: bytes, fields: bytes, body: bytes = b"") -> bytes:
    return start + b"\r\n" + fields.strip().replace(b"\n", b"\r\n") + b"\r\n\r\n" + body


# What real programs send: their fields in their order.
HONEST: dict[str, bytes] = {
    "curl": _honest(b"GET /events HTTP/1.1", b"Host: localhost:8000\nUser-Agent: curl/8.14.1\nAccept: */*"),
    "Chrome, a page": _honest(
        b"GET /boards/board-1?x=1 HTTP/1.1",
        b"""
Host: localhost:8000
Connection: keep-alive
Cache-Control: max-age=0
sec-ch-ua: "Chromium";v="142", "Google Chrome";v="142", "Not_A Brand";v="99"
sec-ch-ua-mobile: ?0
sec-ch-ua-platform: "Linux"
Upgrade-Insecure-Requests: 1
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8
Sec-Fetch-Site: none
Sec-Fetch-Mode: navigate
Sec-Fetch-User: ?1
Sec-Fetch-Dest: document
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: de-DE,de;q=0.9,en;q=0.8
Cookie: session=eyJ1c2VyIjoxfQ.aSgx2w.Qz-n_1k; csrftoken=AbC
""",
    ),
    "Chrome, an EventSource that reconnects": _honest(
        b"GET /boards/board-1/events HTTP/1.1",
        b"""
Host: localhost:8000
Connection: keep-alive
Cache-Control: no-cache
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36
Accept: text/event-stream
Last-Event-ID: kfoiqz-1204
Sec-Fetch-Site: same-origin
Sec-Fetch-Mode: cors
Sec-Fetch-Dest: empty
Referer: http://localhost:8000/boards/board-1
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: de-DE,de;q=0.9
""",
    ),
    "Firefox, a form": _honest(
        b"POST /boards/board-1/tasks HTTP/1.1",
        b"""
Host: localhost:8000
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8
Accept-Language: de,en-US;q=0.7,en;q=0.3
Accept-Encoding: gzip, deflate, br, zstd
Content-Type: application/x-www-form-urlencoded
Content-Length: 16
Origin: http://localhost:8000
DNT: 1
Sec-GPC: 1
Connection: keep-alive
Referer: http://localhost:8000/boards/board-1
Cookie: session=abc
Upgrade-Insecure-Requests: 1
Priority: u=0, i
""",
        b"title=Buy+a+milk",
    ),
    "nginx, HTTP/1.1 with an empty Connection": _honest(
        b"GET /boards/board-1 HTTP/1.1",
        b"""
Host: shop.example
X-Real-IP: 203.0.113.7
X-Forwarded-For: 203.0.113.7
X-Forwarded-Proto: https
X-Forwarded-Host: shop.example
X-Forwarded-Port: 443
User-Agent: Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148
Accept: */*
Accept-Language: de
""",
    ),
    "nginx, as it is without settings": _honest(b"GET / HTTP/1.0", b"Host: app\nConnection: close\nAccept: */*"),
    "Caddy": _honest(
        b"GET /boards/board-1 HTTP/1.1",
        b"""
Host: shop.example
User-Agent: Mozilla/5.0
Accept: */*
Accept-Encoding: gzip
Via: 2.0 Caddy
X-Forwarded-For: 203.0.113.7
X-Forwarded-Host: shop.example
X-Forwarded-Proto: https
""",
    ),
    "HAProxy": _honest(
        b"GET /a?b=c HTTP/1.1",
        b"host: shop.example\nuser-agent: Mozilla/5.0\naccept: */*\nx-forwarded-for: 203.0.113.7\n"
        b"x-forwarded-proto: https",
    ),
    "an AWS load balancer": _honest(
        b"GET /health HTTP/1.1",
        b"Host: 10.0.0.7:8000\nX-Forwarded-For: 203.0.113.7\nX-Forwarded-Proto: https\nX-Forwarded-Port: 443\n"
        b"X-Amzn-Trace-Id: Root=1-67891233-abcdef012345678912345678\nConnection: close\n"
        b"User-Agent: ELB-HealthChecker/2.0",
    ),
    "requests": _honest(
        b"POST /boards/board-1/tasks HTTP/1.1",
        b"Host: localhost:8000\nUser-Agent: python-requests/2.32.5\nAccept-Encoding: gzip, deflate, br, zstd\n"
        b"Accept: */*\nConnection: keep-alive\nContent-Length: 17\nContent-Type: application/json",
        b'{"title": "milk"}',
    ),
    "httpx": _honest(
        b"POST /boards/board-1/tasks HTTP/1.1",
        b"Host: localhost:8000\nAccept: */*\nAccept-Encoding: gzip, deflate, br, zstd\nConnection: keep-alive\n"
        b"User-Agent: python-httpx/0.28.1\nContent-Length: 16\nContent-Type: application/json",
        b'{"title":"milk"}',
    ),
    "urllib": _honest(
        b"GET / HTTP/1.1",
        b"Accept-Encoding: identity\nHost: localhost:8000\nUser-Agent: Python-urllib/3.13\nConnection: close",
    ),
    "fetch of Node.js": _honest(
        b"DELETE /tasks/1 HTTP/1.1",
        b"host: localhost:8000\nconnection: keep-alive\naccept: */*\naccept-language: *\nsec-fetch-mode: cors\n"
        b"user-agent: node\naccept-encoding: gzip, deflate",
    ),
    "Go": _honest(
        b"GET / HTTP/1.1", b"Host: localhost:8000\nUser-Agent: Go-http-client/1.1\nAccept-Encoding: gzip"
    ),
    "wrk": _honest(b"GET / HTTP/1.1", b"Host: localhost:8000"),
    "a preflight": _honest(
        b"OPTIONS /events HTTP/1.1",
        b"Host: x\nAccept: */*\nAccess-Control-Request-Method: GET\n"
        b"Access-Control-Request-Headers: last-event-id\n"
        b"Origin: https://a.example\nConnection: keep-alive",
    ),
}
