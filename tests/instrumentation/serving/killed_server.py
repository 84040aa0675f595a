"""A server that kills itself with SIGKILL at one point on the way of a response: ``killed_server.py SHAPE POINT``.

Points count the messages that reach the server, twice each: even ones lie just before the message is handed to
uvicorn, odd ones just after, when its bytes are with the kernel.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

import uvicorn
from auditspan.instrumentation.serving.asgi import AuditMiddleware

PIECES = {
    "unary": [b'{"model":"m","usage":{"prompt_tokens":1,"completion_tokens":2}}'],
    "stream": [b'data: {"model":"m"}\n\n', b'data: {"usage":{"completion_tokens":2}}\n\n', b"data: [DONE]\n\n", b""],
    "plain": [b"first ", b"second ", b"third"],
}
TYPES = {"unary": b"application/json", "stream": b"text/event-stream", "plain": b"text/plain"}


async def application(scope, receive, send):
    shape = scope["path"].rpartition("/")[2]
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", TYPES[shape])]})
    pieces = PIECES[shape]
    for index, piece in enumerate(pieces):
        await send({"type": "http.response.body", "body": piece, "more_body": index < len(pieces) - 1})


def killing(inner, at):
    async def outer(scope, receive, send):
        point = 0

        def reached():
            nonlocal point
            if point == at:
                os.kill(os.getpid(), signal.SIGKILL)
            point += 1

        async def counted(message):
            reached()
            await send(message)
            reached()

        await inner(scope, receive, counted)

    return outer


if __name__ == "__main__":
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    app = killing(AuditMiddleware(application), int(sys.argv[1]))
    config = uvicorn.Config(app, lifespan="off", log_level="error", interface="asgi3")
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(config).run(sockets=[listener])
