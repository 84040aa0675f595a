"""What the tests of the ASGI hook share: driving an application message by message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


def http_scope(path: str = "/v1/chat/completions", method: str = "POST", **more: Any) -> dict[str, Any]:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "client": ("203.0.113.9", 50000),
        "server": ("127.0.0.1", 8000),
    }
    return {**scope, **more}


class Driver:
    """A server for one connection: hands out what the client sends, keeps what the application sends."""

    def __init__(self, incoming: Iterable[dict[str, Any]] = ({"type": "http.request", "body": b""},)) -> None:
        self._incoming = list(incoming)
        self.sent: list[dict[str, Any]] = []
        self.on_send: Any = None

    async def receive(self) -> dict[str, Any]:
        if self._incoming:
            return self._incoming.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: dict[str, Any]) -> None:
        if self.on_send is not None:
            self.on_send(message)
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent if message["type"] == "http.response.body")
