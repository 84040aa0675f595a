"""A query that is too heavy fails by itself: what takes events in and seals them does not notice."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from final_checks import prove, settle, stored_once
from running_service import Service
from sent_spans import foreign_request
from waiting import until

SECONDS = 15

ENDLESS = "SELECT count() FROM numbers(1000000000000) WHERE cityHash64(number) = 7"
HUNGRY = "SELECT length(groupArray(repeat('x', 1000 + number % 7))) FROM numbers(1000000000)"
SORTING = "SELECT a.number FROM numbers(100000000) AS a ORDER BY cityHash64(a.number) LIMIT 1 BY a.number % 50000000"
JOINING = (
    "SELECT count() FROM numbers(1000000000000) AS number, auditspan.events AS event "
    "WHERE cityHash64(event.header, number.number) = 7"
)


class _Query(threading.Thread):
    """A query of somebody else, and how it ended."""

    def __init__(self, service: Service, sql: str) -> None:
        super().__init__(daemon=True)
        self._client = service.client(send_receive_timeout=60)
        self._sql = sql
        self.error = ""

    def run(self) -> None:
        try:
            self._client.query(self._sql)
        except DatabaseError as error:
            self.error = str(error)


@pytest.fixture(scope="module")
def service(module_service: Callable[..., Service]) -> Service:
    made = module_service(sql__max_seconds=SECONDS, sql__max_memory_bytes=64 << 20)
    made.start()
    return made


@pytest.fixture(scope="module")
def sent() -> dict[str, list[bytes]]:
    """What every emitter was told is durable."""
    return {}


def _visible(service: Service, payloads: tuple[bytes, ...], emitter: str) -> bool:
    rows = service.rows("SELECT payload FROM auditspan.events WHERE emitter = {e:String}", {"e": emitter})
    return set(payloads) <= {row["payload"] for row in rows}


def _work(service: Service, emitter: str, token: str, sent: dict[str, list[bytes]]) -> None:
    """One request, acknowledged and soon to be seen."""
    sending = foreign_request(5)
    assert service.post(sending.body, token).status == 200
    sent.setdefault(emitter, []).extend(sending.payloads)
    until(lambda: _visible(service, sending.payloads, emitter), "the events to be visible", 30)


@pytest.mark.parametrize("sql", [ENDLESS, JOINING], ids=["endless", "join"])
def test_events_are_seen_while_a_query_runs_out_of_time(
    service: Service, sent: dict[str, list[bytes]], sql: str
) -> None:
    token = service.token("meanwhile")
    _work(service, "meanwhile", token, sent)
    query = _Query(service, sql)
    query.start()
    _work(service, "meanwhile", token, sent)
    assert query.is_alive(), f"it was not heavy enough to show anything: {query.error}"
    query.join(60)
    assert "TIMEOUT_EXCEEDED" in query.error
    _work(service, "meanwhile", token, sent)


@pytest.mark.parametrize("sql", [HUNGRY, SORTING], ids=["array", "sort"])
def test_a_query_that_runs_out_of_memory_takes_nothing_with_it(
    service: Service, sent: dict[str, list[bytes]], sql: str
) -> None:
    token = service.token("hungry")
    queries = [_Query(service, sql) for _ in range(6)]
    for query in queries:
        query.start()
    while any(query.is_alive() for query in queries):
        sending = foreign_request(20)
        assert service.post(sending.body, token).status == 200
        sent.setdefault("hungry", []).extend(sending.payloads)
    for query in queries:
        assert "MEMORY_LIMIT_EXCEEDED" in query.error, query.error
    _work(service, "hungry", token, sent)


def test_after_all_of_it_nothing_is_missing(service: Service, sent: dict[str, list[bytes]]) -> None:
    _work(service, "last", service.token("last"), sent)
    settle(service)
    logs = prove(service)
    for emitter, payloads in sent.items():
        stored_once(logs, emitter, payloads)
