"""An OpenAI-compatible inference endpoint: FastAPI, bearer keys, streaming and not.

    uvicorn inference_endpoint.app:app --app-dir examples

Environment: ``INFERENCE_KEYS`` names another file of keys, ``INFERENCE_TOKENS_PER_SECOND`` paces the answer as a larger
model would (0, the default, is as fast as it goes).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from .language_model import LanguageModel, tokenize

HERE = Path(__file__).parent
MODEL_NAME = "paperwork-4gram"
MODEL_VERSION = f"{MODEL_NAME}-1"


class Message(BaseModel):
    role: str
    content: str


class ChatRequest(BaseModel):
    model: str = MODEL_NAME
    messages: list[Message] = Field(min_length=1)
    stream: bool = False
    max_tokens: int = Field(default=80, ge=1, le=2000)
    seed: int = 0


def read_keys(path: Path) -> dict[str, str]:
    """Digest of each key with its holder; the keys themselves are not kept in memory."""
    holders = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            key, holder = line.split()
            holders[hashlib.sha256(key.encode()).hexdigest()] = holder
    return holders


def create_app() -> FastAPI:
    """Train the model and build the application around it."""
    model = LanguageModel((HERE / "corpus.txt").read_text(encoding="utf-8"))
    keys = read_keys(Path(os.environ.get("INFERENCE_KEYS", HERE / "api_keys.txt")))
    pace = float(os.environ.get("INFERENCE_TOKENS_PER_SECOND", "0"))
    pause = 1 / pace if pace > 0 else 0.0
    started = int(time.time())
    app = FastAPI(title="Paperwork inference endpoint")

    def customer(request: Request) -> str:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(key.strip().encode()).hexdigest()
        for known, holder in keys.items():
            if scheme.lower() == "bearer" and hmac.compare_digest(known, digest):
                return holder
        raise HTTPException(status_code=401, detail="Unknown API key.", headers={"www-authenticate": "Bearer"})

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models", dependencies=[Depends(customer)])
    async def models() -> dict[str, Any]:
        entry = {"id": MODEL_NAME, "object": "model", "created": started, "owned_by": "examples"}
        return {"object": "list", "data": [entry]}

    @app.post("/v1/chat/completions", response_model=None, dependencies=[Depends(customer)])
    async def chat(body: ChatRequest) -> dict[str, Any] | StreamingResponse:
        if body.model not in {MODEL_NAME, MODEL_VERSION}:
            raise HTTPException(status_code=404, detail="No such model.")
        identity = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": MODEL_VERSION}
        prompt_tokens = sum(len(tokenize(message.content)) for message in body.messages)
        pieces = model.generate(body.messages[-1].content, max_tokens=body.max_tokens, seed=body.seed)

        def usage(completion_tokens: int) -> dict[str, int]:
            return {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            }

        if not body.stream:
            answer = []
            for piece in pieces:
                answer.append(piece)
                await asyncio.sleep(pause)
            choice = {
                "index": 0,
                "message": {"role": "assistant", "content": "".join(answer)},
                "finish_reason": "length" if len(answer) >= body.max_tokens else "stop",
            }
            return {**identity, "object": "chat.completion", "choices": [choice], "usage": usage(len(answer))}

        async def events() -> AsyncIterator[str]:
            def event(choices: list[dict[str, Any]], **more: Any) -> str:
                chunk = {**identity, "object": "chat.completion.chunk", "choices": choices, **more}
                return f"data: {json.dumps(chunk)}\n\n"

            count = 0
            yield event([{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}])
            for piece in pieces:
                count += 1
                yield event([{"index": 0, "delta": {"content": piece}, "finish_reason": None}])
                await asyncio.sleep(pause)
            yield event([{"index": 0, "delta": {}, "finish_reason": "length" if count >= body.max_tokens else "stop"}])
            yield event([], usage=usage(count))
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return app


app = create_app()
