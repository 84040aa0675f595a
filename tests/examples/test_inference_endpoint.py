from __future__ import annotations

import ast
import json
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml
from auditspan.instrumentation.fingerprint import credential_fingerprint

EXAMPLES = Path(__file__).parents[2] / "examples"
ENDPOINT = EXAMPLES / "inference_endpoint"
KEY = "demo-key-fjord-d0461b8c"


@pytest.fixture(scope="module")
def endpoint():
    sys.path.insert(0, str(EXAMPLES))
    try:
        from inference_endpoint import app, language_model
    finally:
        sys.path.remove(str(EXAMPLES))
    return app, language_model


@pytest.fixture
def ask(endpoint):
    import asyncio

    def run(method, path, key=KEY, **more):
        async def call():
            transport = httpx.ASGITransport(endpoint[0].create_app())
            async with httpx.AsyncClient(transport=transport, base_url="http://endpoint") as client:
                headers = {"authorization": f"Bearer {key}"} if key else {}
                return await client.request(method, path, headers=headers, **more)

        return asyncio.run(call())

    return run


def chat(**more):
    return {"messages": [{"role": "user", "content": "How do I export an accelerator?"}], **more}


def test_the_endpoint_and_the_script_import_nothing_of_ours():
    sources = [*ENDPOINT.glob("*.py"), *(EXAMPLES / "move_and_provision").glob("*.py")]
    assert len(sources) >= 4
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.partition(".")[0] in {"auditspan", "opentelemetry"} for name in names), source


def test_the_model_is_trained_in_seconds_and_repeats_itself(endpoint):
    text = (ENDPOINT / "corpus.txt").read_text()
    assert len(text.encode()) >= 20_000
    began = time.perf_counter()
    model = endpoint[1].LanguageModel(text)
    assert time.perf_counter() - began < 5
    first = "".join(model.generate("What is a licence?", max_tokens=60, seed=3))
    assert first == "".join(endpoint[1].LanguageModel(text).generate("What is a licence?", max_tokens=60, seed=3))
    assert first != "".join(model.generate("What is a licence?", max_tokens=60, seed=4))
    # It speaks the language of its text, and does not just recite it.
    known = set(endpoint[1].tokenize(text))
    assert set(endpoint[1].tokenize(first)) <= known
    assert first not in " ".join(text.split())


def test_a_whole_answer(ask):
    answer = ask("POST", "/v1/chat/completions", json=chat(max_tokens=30)).json()
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"]
    usage = answer["usage"]
    assert usage["prompt_tokens"] == 7
    assert 0 < usage["completion_tokens"] <= 30
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_streamed_answer_says_the_same_and_ends_with_the_usage(ask):
    whole = ask("POST", "/v1/chat/completions", json=chat(max_tokens=30)).json()
    response = ask("POST", "/v1/chat/completions", json=chat(max_tokens=30, stream=True))
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert events.pop() == "[DONE]"
    chunks = [json.loads(event) for event in events]
    text = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["usage"] == whole["usage"]


@pytest.mark.parametrize(
    ("method", "path", "key", "body", "status"),
    [
        ("GET", "/healthz", None, None, 200),
        ("GET", "/v1/models", None, None, 401),
        ("GET", "/v1/models", KEY, None, 200),
        ("POST", "/v1/chat/completions", "wrong", chat(), 401),
        ("POST", "/v1/chat/completions", KEY, chat(model="gpt"), 404),
        ("POST", "/v1/chat/completions", KEY, {"messages": []}, 422),
    ],
)
def test_who_gets_what(ask, method, path, key, body, status):
    assert ask(method, path, key, json=body).status_code == status


def test_the_party_registry_lists_the_holder_of_every_key(endpoint):
    parties = yaml.safe_load((EXAMPLES / "parties.yaml").read_text())["parties"]
    holders = {fingerprint: party["id"] for party in parties for fingerprint in party.get("credentials", ())}
    for line in (ENDPOINT / "api_keys.txt").read_text().splitlines():
        if not line.startswith("#"):
            key, holder = line.split()
            assert holders[credential_fingerprint(key)] == holder
    assert holders[credential_fingerprint("AKIADEMOPLATFORM0001")] == "harbour-models"
    for party in parties:
        # An unquoted NO is false to YAML.
        assert isinstance(party["country"], str)
        parent = party.get("ultimate_parent")
        assert parent == "self" or "owners" in party or isinstance(parent["country"], str)
