"""A server that keeps what it is sent, and answers what a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import orjson


class Request(NamedTuple):
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def parameters(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def json(self) -> Any:
        return orjson.loads(self.body) if self.body else None


class Answered(NamedTuple):
    """What is answered."""

    status: int = 200
    body: bytes = b"{}"
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}


class Recorder:
    """Where the server is, and what came."""

    def __init__(self, url: str, answer: Callable[[Request], Answered]) -> None:
        self.url = url
        self.answer = answer
        self.requests: list[Request] = []

    def taken(self) -> list[Request]:
        """What came since this was last asked."""
        taken, self.requests = self.requests, []
        return taken


@contextmanager
def recording(answer: Callable[[Request], Answered] = lambda _: Answered()) -> Iterator[Recorder]:
    """A recorder that answers by ``answer``, in threads of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (ConnectionError, TimeoutError):
                self.close_connection = True

        def _any(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            came = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, came, self.rfile.read(length))
            recorder.requests.append(request)
            status, body, content_type, headers = recorder.answer(request)
            self.send_response(status)
            for name, value in {"content-type": content_type, **headers}.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            if status != 204:
                self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    recorder = Recorder(f"http://127.0.0.1:{server.server_port}", answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield recorder
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
