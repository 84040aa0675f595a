"""A TCP proxy that does to a connection what networks and dying servers do: delays, cuts, swallows.

    with TcpProxy(("127.0.0.1", 8123)) as proxy:
        dropped = proxy.inject(Fault.drop_answer(b"INSERT INTO auditspan.events"))
        …                                   # a client that was given proxy.port
        assert dropped.struck.wait(10)

A fault waits for a request with its bytes (on any connection; none: the first bytes of the next one), strikes ``times``
times or, given a ``chance``, each time that the dice say so, and is over. Protocols must be of the kind question and
answer, one after the other, such as HTTP/1.1 without pipelining. Run it in a process of its own with
``python tcp_proxy.py LISTEN_PORT HOST PORT`` to have a proxy without faults.
"""

from __future__ import annotations

import enum
import random
import socket
import sys
import threading
import time
from dataclasses import dataclass, field

_READ = 64 * 1024
_ERROR_BODY = b"Code: 1002. DB::Exception: the server says that it failed. (UNKNOWN_EXCEPTION)\n"
_ERROR = (
    b"HTTP/1.1 500 Internal Server Error\r\nX-ClickHouse-Exception-Code: 1002\r\nConnection: close\r\n"
    b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (len(_ERROR_BODY), _ERROR_BODY)
)


class Kind(enum.Enum):
    CUT_REQUEST = "cut request"
    HOLD_REQUEST = "hold request"
    DROP_ANSWER = "drop answer"
    CUT_ANSWER = "cut answer"
    DELAY_ANSWER = "delay answer"
    ERROR_ANSWER = "error answer"


@dataclass(eq=False)
class Fault:
    kind: Kind
    matching: bytes = b""
    after: int = 0
    """Bytes that pass first: of the request counted from the match on, or of the answer."""
    seconds: float = 0.0
    times: int = 1
    chance: random.Random | None = None
    share: float = 1.0
    struck: threading.Event = field(default_factory=threading.Event)
    """Set once it has struck."""
    release: threading.Event = field(default_factory=threading.Event)
    """Ends a held request before its time."""
    count: int = 0

    @classmethod
    def cut_request(cls, matching: bytes = b"", after: int = 0, times: int = 1) -> Fault:
        """The server gets ``after`` bytes of the request, then both sides lose the connection."""
        return cls(Kind.CUT_REQUEST, matching, after, times=times)

    @classmethod
    def hold_request(cls, matching: bytes = b"", after: int = 0, seconds: float = 60.0) -> Fault:
        """The request stops after ``after`` bytes and goes on ``seconds`` later, or on ``release``."""
        return cls(Kind.HOLD_REQUEST, matching, after, seconds)

    @classmethod
    def drop_answer(cls, matching: bytes = b"", times: int = 1) -> Fault:
        """The server does what it is asked and answers; the client loses the connection instead."""
        return cls(Kind.DROP_ANSWER, matching, times=times)

    @classmethod
    def drop_answers(cls, matching: bytes, share: float, seed: int) -> Fault:
        """The same of this share of all answers, at random."""
        return cls(Kind.DROP_ANSWER, matching, times=sys.maxsize, chance=random.Random(seed), share=share)

    @classmethod
    def cut_answer(cls, matching: bytes = b"", after: int = 0, times: int = 1) -> Fault:
        """The client gets ``after`` bytes of the answer, then loses the connection."""
        return cls(Kind.CUT_ANSWER, matching, after, times=times)

    @classmethod
    def delay_answer(cls, matching: bytes = b"", seconds: float = 1.0, times: int = 1) -> Fault:
        """The answer comes ``seconds`` late, or on ``release``."""
        return cls(Kind.DELAY_ANSWER, matching, seconds=seconds, times=times)

    @classmethod
    def error_answer(cls, matching: bytes = b"", times: int = 1) -> Fault:
        """The server does what it is asked and answers; the client reads HTTP 500 with an error of ClickHouse."""
        return cls(Kind.ERROR_ANSWER, matching, times=times)


class TcpProxy:
    """Listens on a free loopback port, or ``port``, and passes everything on to ``upstream``, which may change."""

    def __init__(self, upstream: tuple[str, int], port: int = 0) -> None:
        self.upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._faults: list[Fault] = []
        self._guard = threading.Lock()
        self._open: set[_Connection] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def inject(self, fault: Fault) -> Fault:
        with self._guard:
            self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """Take all faults away."""
        with self._guard:
            self._faults.clear()

    def cut_all(self) -> None:
        """End every connection now."""
        for connection in list(self._open):
            connection.end()

    def __enter__(self) -> TcpProxy:
        return self

    def __exit__(self, *exception: object) -> None:
        # Wakes the thread that accepts, which close alone does not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.upstream, timeout=10)
            except OSError:
                client.close()  # as if nobody listened
                continue
            server.settimeout(None)
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(self, client, server)
            self._open.add(connection)
            for pump in (connection.pass_requests, connection.pass_answers):
                threading.Thread(target=pump, daemon=True).start()

    def _strike(self, seen: bytes) -> tuple[Fault, int] | None:
        """The fault that this stretch of a request brings down, and where in it."""
        with self._guard:
            for fault in self._faults:
                place = seen.find(fault.matching)
                if place < 0 or (fault.chance is not None and fault.chance.random() >= fault.share):
                    continue
                fault.count += 1
                if fault.count >= fault.times:
                    self._faults.remove(fault)
                return fault, place
        return None

    def _longest(self) -> int:
        with self._guard:
            return max((len(fault.matching) for fault in self._faults), default=1)

    def _forget(self, connection: _Connection) -> None:
        self._open.discard(connection)


class _Connection:
    def __init__(self, proxy: TcpProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._fault: Fault | None = None

    def pass_requests(self) -> None:
        tail = b""
        try:
            while data := self._client.recv(_READ):
                struck = None if self._fault else self._proxy._strike(tail + data)
                if struck is None:
                    self._server.sendall(data)
                    tail = (tail + data)[-max(self._proxy._longest() - 1, 0) :] if self._proxy._longest() > 1 else b""
                    continue
                fault, place = struck
                begin = max(place - len(tail), 0)
                tail = b""
                self._strike_request(fault, data, begin)
        except OSError:
            pass
        finally:
            self.end()

    def _strike_request(self, fault: Fault, data: bytes, begin: int) -> None:
        if fault.kind not in (Kind.CUT_REQUEST, Kind.HOLD_REQUEST):
            self._fault = fault
            self._server.sendall(data)
            return
        left = begin + fault.after
        while len(data) < left:
            self._server.sendall(data)
            left -= len(data)
            data = self._client.recv(_READ)
            if not data:
                raise OSError("the client ended first")
        self._server.sendall(data[:left])
        fault.struck.set()
        if fault.kind is Kind.CUT_REQUEST:
            raise OSError("cut")
        fault.release.wait(fault.seconds)
        self._server.sendall(data[left:])

    def pass_answers(self) -> None:
        try:
            while data := self._server.recv(_READ):
                fault, self._fault = self._fault, None
                if fault is None:
                    self._client.sendall(data)
                elif fault.kind is Kind.DELAY_ANSWER:
                    fault.struck.set()
                    fault.release.wait(fault.seconds)
                    self._client.sendall(data)
                elif fault.kind is Kind.ERROR_ANSWER:
                    fault.struck.set()
                    self._client.sendall(_ERROR)
                    self.end()
                    raise OSError("answered")
                else:
                    self._cut_answer(fault, data)
        except OSError:
            pass
        finally:
            self.end()

    def _cut_answer(self, fault: Fault, data: bytes) -> None:
        left = fault.after if fault.kind is Kind.CUT_ANSWER else 0
        while len(data) < left:
            self._client.sendall(data)
            left -= len(data)
            data = self._server.recv(_READ)
            if not data:
                raise OSError("the answer was shorter")
        self._client.sendall(data[:left])
        # First: who sees the connection end may ask at once whether it was this.
        fault.struck.set()
        self.end()
        raise OSError("cut")

    def end(self) -> None:
        self._proxy._forget(self)
        for side in (self._client, self._server):
            try:
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            side.close()


def main() -> None:
    port, host, upstream = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    with TcpProxy((host, upstream), port) as proxy:
        print(proxy.port, flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
