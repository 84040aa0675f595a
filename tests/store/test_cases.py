"""Cases: every unflagged review is in exactly one, however it came; a day opens at most fifty."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from case_model import DAY, case_id, pairs_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sealed_batches import ARRIVAL, LOG, OTHER_LOG, batch_row, event_row, table_of

from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.contract import SealedBatch
from auditspan.store.migrate import shipped_migrations

MOST_A_DAY = 50
START = ARRIVAL // DAY * DAY

QUESTIONS = (
    ("actor_party",), ("actor_party", "destination_country"), ("actor_country", "actor_parent_country"),
    ("actor_parent_country",), ("end_user_party",), ("end_user_parent_country",), ("destination_country",),
    ("destination_groups",), ("performance_density",), ("accelerator_model",), (),
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ClickHouseStore]:
    made = ClickHouseStore.embedded(tmp_path / "store")
    made.migrate()
    yield made
    made.close()


def facts_of(said: dict[str, Any]) -> bytes:
    """A facts document as far as cases read it, in canonical order."""
    facts = {name: said.get(name) for name in ("actor_party", "end_user_party")}
    rules: list[dict[str, Any]] = [{"flag": True, "governs": False, "id": "beside", "outcome": "review"}]
    rules += [{"flag": False, "governs": True, "id": said["rule"], "outcome": "review"}] if said.get("rule") else []
    known_by = {"actor_party": "audit.actor.id"}
    document = {"facts": facts, "known_by": known_by, "rules": rules}
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def a_review(arrival: int, **values: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "determination": "review", "flagged": False, "arrival_time": arrival, "emitter": "gateway", "actor_id": "",
        "missing_facts": ["actor_party"], "faults": [], "said": {},
    }  # fmt: skip
    return row | values


def seal(store: ClickHouseStore, rows: list[dict[str, Any]], size: int, log_id: str = LOG) -> list[dict[str, Any]]:
    """Seal ``rows`` in batches of ``size``; the same rows with their places."""
    leaf, placed = 0, []
    for begin in range(0, len(rows), size):
        batch = rows[begin : begin + size]
        first, made = leaf, []
        for row in batch:
            values = {name: value for name, value in row.items() if name != "said"}
            values["actor_id"] = values["actor_id"] or None
            made.append(event_row(leaf, log_id=log_id, facts=facts_of(row["said"]), **values))
            placed.append(row | {"leaf_index": leaf, "log_id": log_id})
            leaf += 1
        made.append(batch_row(leaf, log_id=log_id))
        leaf += 1
        store.append_batch(SealedBatch(log_id, first, table_of(made)))
    return placed


def members(store: ClickHouseStore) -> list[tuple[Any, ...]]:
    found = store.query(
        "SELECT subject, question, case_id, own, home, events, toUnixTimestamp64Nano(case_members.first_seen) AS at, "
        "missing_facts FROM auditspan.case_members ORDER BY subject, question"
    ).to_pylist()
    return [(*list(row.values())[:-1], tuple(row["missing_facts"])) for row in found]


def expected(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted(
        (p.subject, p.question, case_id(*p.case), p.own, p.home, p.events, p.first[0], tuple(sorted(p.missing)))
        for p in pairs_of(rows)
    )


def empty(store: ClickHouseStore) -> None:
    store.command("TRUNCATE TABLE auditspan.events")


def new_cases_a_day(store: ClickHouseStore) -> dict[int, int]:
    found = store.query(
        "SELECT intDiv(toUnixTimestamp64Nano(cases.first_seen), 86400000000000) AS day FROM auditspan.cases"
    )
    return Counter(found["day"].to_pylist())


events_of_a_day = st.builds(
    a_review,
    arrival=st.integers(0, 2 * 24).map(lambda hour: START + hour * DAY // 24),
    actor_id=st.sampled_from(["", *(f"sha256:{number}" for number in range(12)), "x" * 300]),
    emitter=st.sampled_from(["gateway", "batch"]),
    determination=st.sampled_from(["review", "review", "review", "license_required", "no_license_required"]),
    flagged=st.sampled_from([False, False, False, True]),
    missing_facts=st.sampled_from([list(names) for names in QUESTIONS]),
    faults=st.sampled_from([[], [], ["time.end_before_start"], ["attribute.limit", "time.missing"]]),
    said=st.fixed_dictionaries(
        {
            "actor_party": st.sampled_from([None, *(f"party-{number}" for number in range(30))]),
            "end_user_party": st.sampled_from(["lion", 'a "quoted" one']),
            "rule": st.sampled_from([None, "us-ear/weights", "house/h200"]),
        }
    ),
)


def shortened(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As a case names them: an actor id that is longer than any sensible one by its digest."""

    def short(actor: str) -> str:
        return actor if len(actor) <= 256 else f"sha256:{hashlib.sha256(actor.encode()).hexdigest()}"

    return [row | {"actor_id": short(row["actor_id"])} for row in rows]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(events_of_a_day, max_size=120), sizes=st.tuples(st.integers(1, 60), st.integers(20, 120)))
def test_every_unflagged_review_is_in_one_case_whatever_the_batches(
    store: ClickHouseStore, rows: list[dict[str, Any]], sizes: tuple[int, int]
) -> None:
    seen = []
    for size in sizes:
        empty(store)
        half = len(rows) // 2
        placed = seal(store, rows[:half], size) + seal(store, rows[half:], size, OTHER_LOG)
        assert members(store) == expected(shortened(placed))
        seen.append([(m[0], m[1], m[5]) for m in members(store)])
        reviews = [row for row in rows if row["determination"] == "review" and not row["flagged"]]
        counts = store.query("SELECT sum(events) AS n, sum(members) AS m FROM auditspan.cases").to_pylist()[0]
        assert (int(counts["n"]), int(counts["m"])) == (len(reviews), len(members(store)))
        flagged = store.query("SELECT count() AS n FROM auditspan.events WHERE flagged")["n"][0].as_py()
        assert flagged == sum(row["flagged"] for row in rows)
        grouped = store.query("SELECT count() AS n FROM auditspan.events WHERE flagged AND case_subject != ''")
        assert grouped["n"][0].as_py() == 0
    assert seen[0] == seen[1]


def test_a_flood_of_fresh_credentials_opens_few_cases_and_hides_nobody(store: ClickHouseStore) -> None:
    flood = [a_review(START + number, actor_id=f"sha256:{number}", emitter="gateway") for number in range(3_000)]
    quiet = [a_review(START + 4_000, actor_id="sha256:someone", emitter="batch")]
    placed = seal(store, flood + quiet, 1_000)
    assert members(store) == expected(placed)
    cases = store.query("SELECT subject, members, grouped, events FROM auditspan.cases ORDER BY members").to_pylist()
    assert len(cases) == 5 + 1 + 1
    assert cases[-1] == {"subject": "emitter:gateway", "members": 2_995, "grouped": 2_995, "events": 2_995}
    assert "actor:sha256:someone" in {case["subject"] for case in cases}
    assert len(members(store)) == 3_001


def test_no_day_opens_more_than_its_budget(store: ClickHouseStore) -> None:
    """Strangers at many emitters, parties without a parent and faults, more of each than a day may open."""
    rows = []
    for day in range(3):
        for number in range(40):
            at = START + day * DAY + number
            who = f"{day}-{number}"
            rows += [
                a_review(at, actor_id=f"s{who}", emitter=f"gateway-{number % 20}"),
                a_review(at + 100, said={"actor_party": f"p{who}"}, missing_facts=["actor_parent_country"]),
                a_review(at + 200, emitter=f"broken-{who}", missing_facts=[], faults=["time.missing"]),
                a_review(
                    at + 300, actor_id=f"t{who}", missing_facts=["destination_country"], emitter=f"e{number % 15}"
                ),
            ]
    placed = seal(store, rows, 200)
    assert members(store) == expected(placed)
    opened = new_cases_a_day(store)
    assert len(opened) == 3
    assert max(opened.values()) <= MOST_A_DAY
    assert opened[START // DAY] == MOST_A_DAY, "the budget is spent before anything is taken together"
    total = store.query("SELECT sum(events) AS n FROM auditspan.cases")["n"][0].as_py()
    assert int(total) == len(rows)


def test_what_comes_later_moves_nothing(store: ClickHouseStore) -> None:
    """An actor keeps its case when others come after it, on that day or another."""
    rows = [a_review(START + number, actor_id=f"sha256:{number}") for number in range(30)]
    seal(store, rows, 30)
    before = {(m[0], m[1]): m[2] for m in members(store)}
    empty(store)
    later = [a_review(START + DAY // 2 + n, actor_id=f"sha256:late-{n}", emitter=f"e{n}") for n in range(60)]
    again = [a_review(START + DAY + n, actor_id=f"sha256:{n}") for n in range(30)]
    seal(store, rows + later + again, 50)
    after = {(m[0], m[1]): m[2] for m in members(store)}
    assert {pair: after[pair] for pair in before} == before


def test_a_page_of_cases_reads_counts_and_no_events(store: ClickHouseStore) -> None:
    seal(store, [a_review(START + number, actor_id="a") for number in range(10)], 5)
    for view in ("cases", "case_members"):
        plan = store.query(f"EXPLAIN SELECT * FROM auditspan.{view}")["explain"].to_pylist()
        reads = [line.strip("│└─ ") for line in plan if "ReadFrom" in line]
        assert [read.partition(" ")[2] for read in reads] == ["(case_counts)"], plan


def test_the_counts_survive_merges(store: ClickHouseStore) -> None:
    placed = seal(store, [a_review(START + n, actor_id=f"a{n % 7}") for n in range(60)], 6)
    store.command("OPTIMIZE TABLE auditspan.events FINAL")
    assert (
        store.query(
            "SELECT count() AS n FROM system.parts WHERE active AND database = 'auditspan' AND table = 'events'"
        )["n"][0].as_py()
        == 1
    )
    assert members(store) == expected(placed)


def test_a_store_from_before_gets_its_cases(store: ClickHouseStore) -> None:
    """Events that an earlier version sealed have no missing facts: they are cases by their rule."""
    for statement in (
        "DROP VIEW auditspan.cases",
        "DROP VIEW auditspan.case_members",
        "ALTER TABLE auditspan.events DROP PROJECTION case_counts",
        "ALTER TABLE auditspan.events DROP COLUMN case_subject",
        "ALTER TABLE auditspan.events DROP COLUMN case_question",
    ):
        store.command(statement)
    said = {"rule": "us-ear/access-actor"}
    placed = seal(store, [a_review(START, actor_id="a", said=said, missing_facts=[]) for _ in range(9)], 9)
    store.command("ALTER TABLE auditspan.events DROP COLUMN missing_facts")
    fifth = next(migration for migration in shipped_migrations() if migration.name == "0005_cases")
    for _ in range(2):
        for statement in fifth.statements:
            store.command(statement)
    assert members(store) == expected(placed)
    assert members(store)[0][:2] == ("actor:a", "rule:us-ear/access-actor")


def test_a_killed_writer_leaves_whole_batches_in_cases(tmp_path: Path) -> None:
    """What is sealed is counted, and nothing else: counts are written with the events, or not at all."""
    writer = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("killed_case_writer.py")), str(tmp_path / "store")],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert writer.stdout is not None
        for _ in range(3):
            assert writer.stdout.readline()
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    store = ClickHouseStore.embedded(tmp_path / "store")
    try:
        sealed = store.query("SELECT count() AS n FROM auditspan.events WHERE determination = 'review'")["n"][0].as_py()
        assert sealed >= 30
        assert int(store.query("SELECT sum(events) AS n FROM auditspan.cases")["n"][0].as_py()) == sealed
    finally:
        store.close()
