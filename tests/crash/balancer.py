"""A load balancer in front of the collectors' OTLP/HTTP ports: it writes down what they acknowledge, and loses answers.

It does what such things do in the field: the next collector for every request, another one when nobody answers the
call, 503 when none does, and a connection that just ends when a collector dies in the middle of a request.
"""

from __future__ import annotations

import gzip
import http.client
import itertools
import random
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from delivered import Diary

_UNDO: Mapping[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress, "": bytes}
_PASSED_ON = ("content-type", "content-encoding", "authorization", "user-agent")


class Balancer:
    """Listens on a free loopback port from its making on.

    Args:
        collectors: HOST:PORT of each.
        emitters: emitter by token.
        diary: where requests and acknowledgements are written down.
        lost: share of acknowledgements that never reach the sender.
        seed: of the dice for that.
    """

    def __init__(
        self, collectors: Sequence[str], emitters: Mapping[str, str], diary: Diary, lost: float, seed: int
    ) -> None:
        self._turn = itertools.count()
        self._collectors = list(collectors)
        self._emitters = emitters
        self._diary = diary
        self._lost = lost
        self._dice = random.Random(seed)
        self._guard = threading.Lock()
        self.lost = 0
        """Acknowledgements that were lost on purpose."""
        self.before_answer: Callable[[str], None] | None = None
        """Told once which collector acknowledged a request before its sender hears of it; the answer is lost then."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _forward(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes] | None:
        """The answer for the sender; None when there is none for it."""
        emitter = self._emitters[headers["authorization"].removeprefix("Bearer ")]
        number = self._diary.sent(emitter, _UNDO[headers.get("content-encoding", "")](body))
        start = next(self._turn)
        for place in range(len(self._collectors)):
            collector = self._collectors[(start + place) % len(self._collectors)]
            connection = http.client.HTTPConnection(collector, timeout=30)
            try:
                connection.connect()
            except OSError:
                continue
            try:
                connection.request("POST", "/v1/traces", body, dict(headers))
                answer = connection.getresponse()
                said = answer.read()
            except (OSError, http.client.HTTPException):
                return None
            finally:
                connection.close()
            if answer.status == 200:
                assert said == b"", "a collector refused a part of a good request"
                self._diary.acknowledged(number)
                if self._loses(collector):
                    return None
            kept = {
                name: value for name, value in answer.getheaders() if name.lower() in ("content-type", "retry-after")
            }
            return answer.status, kept, said
        return 503, {"Retry-After": "0"}, b""

    def _loses(self, collector: str) -> bool:
        with self._guard:
            told, self.before_answer = self.before_answer, None
            lost = told is not None or self._dice.random() < self._lost
            self.lost += lost
        if told is not None:
            told(collector)
        return lost

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        balancer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name: self.headers[name] for name in _PASSED_ON if name in self.headers}
                answered = balancer._forward(body, headers)
                if answered is None:
                    self.close_connection = True
                    return
                status, kept, said = answered
                self.send_response(status)
                for name, value in kept.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:  # the sender was killed
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        return Handler
