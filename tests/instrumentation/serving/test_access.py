"""Which requests are recorded, who is named, and which middleware does it."""

from __future__ import annotations

import asyncio

import pytest
from auditspan.instrumentation.fingerprint import credential_fingerprint
from auditspan.instrumentation.serving.asgi import AsgiAuditInstrumentor, AuditMiddleware
from auditspan.instrumentation.serving.routes import operation_name
from auditspan.instrumentation.serving.settings import ServingSettings
from hooked import Driver, http_scope
from starlette.authentication import BaseUser
from test_exchange import body, sends, start

from auditspan.errors import AuditSpanError

HELLO = sends(start(), body(b"{}"))


@pytest.mark.parametrize(
    ("method", "path", "recorded"),
    [
        ("POST", "/v1/chat/completions", True),
        ("POST", "/an/unheard/of/route", True),
        ("GET", "/", True),
        ("GET", "/healthz", False),
        ("HEAD", "/healthz/", False),
        ("GET", "/metrics", False),
        ("GET", "/docs", False),
        ("POST", "/healthz", True),  # a probe carries no prompt
        ("GET", "/healthz/../v1/chat", True),
        ("GET", "/v1/health", True),
    ],
)
def test_every_request_but_probes_is_recorded(serve, records, method, path, recorded):
    serve(HELLO, http_scope(path, method))
    assert len(records()) == int(recorded)


def test_routes_can_be_left_out_or_chosen(serve, records):
    settings = ServingSettings.from_environment(
        {"AUDITSPAN_ASGI_EXCLUDE": "/status, /alive/", "AUDITSPAN_ASGI_INCLUDE": "^/(v1|status|alive)"}
    )
    for path in ("/status", "/alive", "/healthz", "/other"):
        serve(HELLO, http_scope(path, "GET"), settings=settings)
    assert records() == []
    serve(HELLO, http_scope("/v1/x", "GET"), settings=settings)
    assert len(records()) == 1


def test_a_mounted_application_keeps_its_probes(serve, records):
    serve(HELLO, http_scope("/api/healthz", "GET", root_path="/api"))
    assert records() == []


@pytest.mark.parametrize(
    "values", [{"AUDITSPAN_ASGI_INCLUDE": "("}, {"AUDITSPAN_FORWARDED_HEADER": "x-real-ip"}], ids=str
)
def test_a_setting_that_cannot_be_used_says_what_to_do(values):
    with pytest.raises(AuditSpanError) as caught:
        ServingSettings.from_environment(values)
    assert next(iter(values)) in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("headers", "secret"),
    [
        ([(b"authorization", b"Bearer k-1")], "k-1"),
        ([(b"Authorization", b"bearer  k-1 ")], "k-1"),
        ([(b"x-api-key", b"k-1")], "k-1"),
        ([(b"api-key", b"k-1")], "k-1"),
        ([(b"authorization", b"Basic dXNlcjpwdw==")], "dXNlcjpwdw=="),
        ([(b"authorization", b"Strange k-1")], "Strange k-1"),
        ([(b"x-api-key", b"other"), (b"authorization", b"Bearer k-1")], "k-1"),
        ([(b"authorization", b"Bearer "), (b"x-api-key", b"k-1")], "k-1"),
    ],
)
def test_the_actor_is_the_fingerprint_of_the_credential(serve, records, headers, secret):
    serve(HELLO, http_scope(headers=headers))
    (record,) = records()
    assert (record["audit.actor.id"], record["audit.actor.type"]) == (credential_fingerprint(secret), "credential")


def test_without_a_credential_the_actor_is_anonymous(serve, records):
    serve(HELLO)
    assert (records()[0]["audit.actor.id"], records()[0]["audit.actor.type"]) == ("anonymous", "anonymous")


class User(BaseUser):
    """As an application makes one that has names and no identity: Starlette raises where it is asked for."""

    is_authenticated = True
    username = "u-77"

    def __init__(self, authenticated=True):
        self.is_authenticated = authenticated


@pytest.mark.parametrize(("user", "expected"), [(User(), "u-77"), (User(False), None), (object(), None)])
def test_the_user_that_the_application_authenticated(serve, records, user, expected):
    async def application(scope, receive, send):
        scope["user"] = user
        await HELLO(scope, receive, send)

    serve(application)
    assert records()[0].get("user.id") == expected


def test_the_record_joins_the_trace_of_the_caller_sampled_or_not(serve, tmp_path):
    from spool_contents import spooled_spans

    serve(HELLO, http_scope(headers=[(b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")]))
    span = spooled_spans(tmp_path / "spool")[1]
    assert span.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert span.parent_span_id.hex() == "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "chat"),
        ("/openai/deployments/x/chat/completions", "chat"),
        ("/v1/completions", "text_completion"),
        ("/v1/embeddings", "embeddings"),
        ("/v1/responses", "chat"),
        ("/generate", "text_completion"),
        ("/invocations", "generate_content"),
        ("/v1/models/m:predict", "generate_content"),
        ("/v2/models/m/infer", "generate_content"),
        ("/v1/models", None),
        ("/completions/x", None),
    ],
)
def test_operations_by_path(path, name):
    assert operation_name(path) == name


def test_where_two_middlewares_meet_the_outermost_records(serve, local_recorder, records):
    recorder = local_recorder()
    serve(AuditMiddleware(AuditMiddleware(HELLO, recorder=recorder), recorder=recorder), recorder=recorder)
    assert len(records()) == 1


def test_the_kill_switch(serve, records):
    driver = serve(HELLO, disabled=True)
    assert len(driver.sent) == 2
    assert records() == []


def test_lifespan_passes_untouched(serve, records):
    seen = []

    async def application(scope, receive, send):
        seen.append((scope, receive, send))

    driver = Driver()
    scope = {"type": "lifespan"}
    serve(application, scope, driver=driver)
    assert seen == [(scope, driver.receive, driver.send)]
    assert scope == {"type": "lifespan"}
    assert records() == []


@pytest.fixture
def instrumented(local_recorder):
    instrumentor = AsgiAuditInstrumentor()
    instrumentor.instrument(recorder=local_recorder())
    yield instrumentor
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


def test_a_framework_under_an_unknown_server(instrumented, records):
    from fastapi import FastAPI

    inner = FastAPI()

    @inner.get("/models/{name}")
    async def model(name: str):
        return {"model": name}

    outer = FastAPI()
    outer.mount("/sub", inner)
    driver = Driver()
    asyncio.run(outer(http_scope("/sub/models/m1", "GET"), driver.receive, driver.send))
    assert driver.sent[0]["status"] == 200
    (record,) = records()
    assert record["gen_ai.response.model"] == "m1"
    instrumented.uninstrument()
    asyncio.run(outer(http_scope("/sub/models/m1", "GET"), Driver().receive, driver.send))
    assert len(records()) == 1


def test_whatever_uvicorn_serves_is_hooked_once(instrumented, records):
    from uvicorn import Config

    config = Config(HELLO, lifespan="off", log_config=None)
    config.load()
    assert isinstance(config.loaded_app, AuditMiddleware)
    driver = Driver()
    scope = http_scope(client=("127.0.0.1", 5), headers=[(b"x-forwarded-for", b"6.6.6.6")])
    asyncio.run(config.loaded_app(scope, driver.receive, driver.send))
    assert [record["client.address"] for record in records()] == ["127.0.0.1"]
    # uvicorn's own proxy middleware has done its work on the scope that the server keeps.
    assert scope["client"][0] == "6.6.6.6"
