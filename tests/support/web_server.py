"""A web server on this machine, as unreliable as a test wants it."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class WebServer:
    """Serves one file; the attributes say how."""

    def __init__(self, url: str):
        self.url = url
        self.content = b""
        self.headers = {"ETag": '"1"'}
        self.serves_ranges = True
        self.heeds_if_range = True
        self.says_length = True
        self.statuses: list[int] = []  # of the next answers; 200 or 206 when none is left
        self.cuts: list[int] = []  # bytes sent of the next answers; all when none is left
        self.requests: list[Mapping[str, str | None]] = []  # headers of the requests so far

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append(request.headers)
        status = self.statuses.pop(0) if self.statuses else 200
        body, headers = self.content, dict(self.headers)
        asked, condition = request.headers["Range"], request.headers["If-Range"]
        fits = condition in self.headers.values() or not self.heeds_if_range
        if status == 200 and asked and self.serves_ranges and fits:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
            status = 206 if first < len(body) else 416
            headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
            body = body[first:]
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        if self.says_length:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if status < 400 and request.command != "HEAD":
            request.wfile.write(body[: self.cuts.pop(0)] if self.cuts else body)

    def ranges(self) -> list[str | None]:
        return [request["Range"] for request in self.requests]


@contextmanager
def web_server(content: bytes = b"") -> Iterator[WebServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def do_HEAD(self) -> None:
            served.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # a client that hangs up is part of the tests

    with Server(("127.0.0.1", 0), Handler) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        served = WebServer(f"http://127.0.0.1:{server.server_port}/dataset.zip")
        served.content = content
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
