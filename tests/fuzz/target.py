"""A running service as the target of attacks, and what it must not do under them."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import orjson

from tests.fuzz.attacks import JOBS, PROJECTS, Attack
from tests.service import Service

HANG_SECONDS = 1.0
"""A request that takes longer every time is a hang: once may be the machine's fault."""
_REPEATS = 3
_NO_ANSWER_SECONDS = 60.0
_INCOMPLETE_SECONDS = 0.03
"""How long one that may be incomplete gets before the client says that nothing more comes."""
_LANES = 8
_CALL_SECONDS = 20.0
_WAIT_SECONDS = 0.1
_BUGS = frozenset({"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS", "UNIMPLEMENTED"})
_PARTIAL = "return_partial_success is not supported"


class Broken(AssertionError):
    """The service did what it must not."""


class Target:
    """The service's two listeners, one connection to each per lane."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._ports = {"rest": service.port, "grpc": service.grpc_port()}
        self._channel = grpc.insecure_channel(f"127.0.0.1:{self._ports['grpc']}")

    def close(self) -> None:
        self._channel.close()

    def prepare(self) -> None:
        """The jobs that attacks know by name."""
        for project in PROJECTS[:2]:
            for job in JOBS:
                body = {
                    "bucketList": {"buckets": [{"bucket": "b0", "prefixList": PREFIXES}]},
                    "deleteObject": {},
                }
                path = f"/v1/projects/{project}/locations/global/jobs"
                reply = self.service.http.post(path, params={"jobId": job}, json=body)
                assert reply.status_code == 200, reply.text

    def storm(self, attacks: Callable[[int], Attack], numbers: range) -> None:
        """Send ``numbers`` of the attacks, several at a time; raises Broken for what failed."""

        def lane(first: int) -> list[str]:
            with self.connection() as connection:
                mine = (attacks(number) for number in numbers[first::_LANES])
                return [why for one in mine if (why := self._why_bad(connection, one))]

        with ThreadPoolExecutor(_LANES) as threads:
            found = [one for some in threads.map(lane, range(_LANES)) for one in some]
        if found:
            raise Broken(f"{len(found)} failed:\n" + "\n".join(found[:10]))

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        connection = Connection(self._ports["rest"])
        try:
            yield connection
        finally:
            connection.close()

    def _why_bad(self, connection: Connection, attack: Attack) -> str:
        """What was wrong, with what replays it; "" if nothing."""
        try:
            seconds = [self._timed(connection, attack)]
            while seconds[-1] > HANG_SECONDS and len(seconds) <= _REPEATS:
                seconds.append(self._timed(connection, attack))
        except (Broken, OSError) as error:
            return f"{error!r}\n  replay: python -m tests.fuzz {attack}"
        if min(seconds) > HANG_SECONDS:
            return f"took {seconds} s\n  replay: python -m tests.fuzz {attack}"
        return ""

    def _timed(self, connection: Connection, attack: Attack) -> float:
        began = time.monotonic()
        if attack.call:
            self._call(attack)
        elif attack.whole:
            connection.ask(attack.data)
        else:
            return self._throw(attack)
        return time.monotonic() - began

    def _call(self, attack: Attack, again: int = _REPEATS) -> None:
        waits = attack.call.endswith("/WaitOperation")
        call: Any = self._channel.unary_unary(attack.call)
        seconds = _WAIT_SECONDS if waits else _CALL_SECONDS
        try:
            call(attack.data, timeout=seconds, wait_for_ready=True)
        except grpc.RpcError as error:
            code, text = error.code().name, error.details() or ""
            if code == "UNAVAILABLE" and again:  # a server that begins anew ends its connections
                self._call(attack, again - 1)
                return
            if code in _BUGS and not (code == "UNIMPLEMENTED" and text.startswith(_PARTIAL)):
                raise Broken(f"{code}: {text}") from error
            if code == "DEADLINE_EXCEEDED" and not waits:
                raise Broken(f"no answer in {_CALL_SECONDS} s") from error

    def _throw(self, attack: Attack) -> float:
        """Send what may be no request at all: it is answered, or waited for until there comes no
        more; then the connection ends."""
        with self._connected(attack.transport) as thrown:
            thrown.settimeout(_INCOMPLETE_SECONDS)
            reply = b""
            began = time.monotonic()
            with suppress(ConnectionResetError, BrokenPipeError):
                thrown.sendall(attack.data)
                with suppress(TimeoutError):
                    reply += thrown.recv(65536)
                with suppress(OSError):  # it is closed already
                    thrown.shutdown(socket.SHUT_WR)
                thrown.settimeout(_NO_ANSWER_SECONDS)
                began = time.monotonic()
                while more := thrown.recv(65536):
                    reply += more
        for status in re.findall(rb"HTTP/1\.1 (\d\d\d) ", reply):
            check_status(int(status), reply)
        return time.monotonic() - began

    def _connected(self, transport: str) -> socket.socket:
        """A new connection; a server that begins anew is away for a moment."""
        deadline = time.monotonic() + _CALL_SECONDS
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self._ports[transport]))
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def memory_mib(self) -> float:
        """What the serving process has resident."""
        status = Path(f"/proc/{self.service.pid}/status").read_text()
        (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
        return int(kib) / 1024

    def check_log(self) -> None:
        """Raises Broken if the service has logged a bug."""
        log = self.service.log()
        place = log.find("Traceback")
        if place >= 0 or " ERROR " in log:
            place = max(place, 0) or log.find(" ERROR ")
            raise Broken(f"in the log: {log[max(0, place - 2000) : place + 6000]}")


@contextmanager
def attacked(service: Service) -> Iterator[Target]:
    """``service``, started for as long as this lasts."""
    try:
        service.start(60)
        target = Target(service)
        yield target
        target.close()
    finally:
        service.close()


PREFIXES = {"includedObjectPrefixes": ["a/"]}


class Connection:
    """A kept HTTP connection, made anew whenever the server closes it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._left = b""

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the reply; raises Broken for one that must not be."""
        fresh = self._socket is None
        try:
            return self._ask(request)
        except ConnectionResetError:
            # It was closed with the last reply, or between the two.
            self.close()
            if fresh:
                raise
            return self._ask(request)

    def _ask(self, request: bytes) -> tuple[int, bytes]:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), _NO_ANSWER_SECONDS)
        # What is refused before all of it has come, is answered and closed.
        with suppress(BrokenPipeError):
            self._socket.sendall(request)
        head = self._until_blank_line()
        if head.startswith(b"HTTP/1.1 100 "):
            head = self._until_blank_line()
        status = int(head[9:12])
        headers = dict(re.findall(rb"\r\n([^:]+): ([^\r]*)", head.lower()))
        length = int(headers.get(b"content-length", 0))
        while not request.startswith(b"HEAD") and len(self._left) < length:
            self._left += self._more()
        body, self._left = self._left[:length], self._left[length:]
        if headers.get(b"connection") == b"close" or self._left:
            self.close()
        check_status(status, body)
        if headers.get(b"content-type", b"").startswith(b"application/json") and body:
            _check_json(status, headers, body)
        return status, body

    def _until_blank_line(self) -> bytes:
        while b"\r\n\r\n" not in self._left:
            self._left += self._more()
        head, _, self._left = self._left.partition(b"\r\n\r\n")
        return head

    def _more(self) -> bytes:
        assert self._socket is not None
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionResetError("closed without an answer")
        return data

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._left = None, b""


def check_status(status: int, reply: bytes) -> None:
    """Raises Broken for what no client can cause."""
    if status >= 500 and not (status == 501 and _PARTIAL.encode() in reply):
        raise Broken(f"{status}: {reply[:2000]!r}")


def _check_json(status: int, headers: dict[bytes, bytes], body: bytes) -> None:
    if b"content-encoding" in headers:
        return
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Broken(f"{status} with what is no JSON, {error}: {body[:2000]!r}") from error
    if status >= 400 and value["error"]["code"] != status:
        raise Broken(f"{status}, and in the body another code: {body[:2000]!r}")
