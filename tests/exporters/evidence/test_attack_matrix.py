"""Every attack is detected with its code, and at its leaf where one can be named.

Each runs twice: done by someone without the signing key (the digests in the manifest no longer fit as well), and by an
insider who repairs and signs the manifest again, so that only the checks beneath it are left.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from auditspan.exporters.evidence.layout import EVENT_FILE
from auditspan.exporters.evidence.report import Report
from auditspan.exporters.evidence.verify import verify_package
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sealed_world import DEPLOYMENT, World, jcs
from tampering import edit, file_of, header, place_of, repair, rows_of, sign, statement_of, write_rows

from auditspan.ledger.checkpoint import Checkpoint, log_origin, sign_checkpoint
from auditspan.ledger.trust import Trust

Change = Callable[[Path, str], None]
Copy = Callable[[str], Path]


@dataclass(frozen=True)
class Attack:
    name: str
    codes: tuple[str, ...]
    leaf: int | None
    change: Change
    package: str = "all"
    log: int = 0


def on(side: str, act: Callable[[list[dict[str, Any]]], Any]) -> Change:
    return lambda folder, log_id: edit(folder, side, log_id, act)


def at(leaf: int, side: str = "events", **values: Any) -> Change:
    """Set columns of one leaf."""

    def act(rows: list[dict[str, Any]]) -> None:
        rows[place_of(rows, leaf)].update(values)

    return on(side, act)


def header_at(leaf: int, side: str = "events", **values: Any) -> Change:
    return on(side, lambda rows: header(rows[place_of(rows, leaf)], **values))


def flip(column: str, leaf: int) -> Change:
    def act(rows: list[dict[str, Any]]) -> None:
        row = rows[place_of(rows, leaf)]
        row[column] = bytes([row[column][0] ^ 1]) + row[column][1:]

    return on("events", act)


def delete(first: int, count: int = 1, side: str = "events") -> Change:
    return on(side, lambda rows: [row for row in rows if not first <= row["leaf_index"] < first + count])


def insert(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    at_place = place_of(rows, 5)
    return [*rows[: at_place + 1], dict(rows[at_place]), *rows[at_place + 1 :]]


def insert_and_renumber(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    made = insert(rows)
    for number, row in enumerate(made):
        row["leaf_index"] = number
    return made


def without_and_renumber(leaf: int) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    def act(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        made = [row for row in rows if row["leaf_index"] != leaf]
        for number, row in enumerate(made):
            row["leaf_index"] = number
        return made

    return act


def swap(rows: list[dict[str, Any]]) -> None:
    rows[4], rows[5] = rows[5], rows[4]


def swap_and_renumber(rows: list[dict[str, Any]]) -> None:
    swap(rows)
    rows[4]["leaf_index"], rows[5]["leaf_index"] = 4, 5


def swap_payloads(rows: list[dict[str, Any]]) -> None:
    for column in ("payload", "salt"):
        rows[4][column], rows[5][column] = rows[5][column], rows[4][column]


def milder(rows: list[dict[str, Any]]) -> None:
    """A milder determination, consistent in header and typed columns."""
    row = rows[1]
    header(row, determination="no_license_required", flagged=False, rule_ids=[])
    row |= {"determination": "no_license_required", "flagged": False, "rule_ids": []}


def batch_claims(rows: list[dict[str, Any]], **values: Any) -> None:
    row = next(row for row in rows if row["class"] == "audit.batch" and row["leaf_index"] > 20)
    header(row, body=json.loads(row["header"])["body"] | values)


def move(leaf: int, source: str, target: str) -> Change:
    def change(folder: Path, log_id: str) -> None:
        rows = rows_of(file_of(folder, source, log_id))
        row = rows.pop(place_of(rows, leaf))
        write_rows(file_of(folder, source, log_id), rows)
        others = rows_of(file_of(folder, target, log_id))
        edit(folder, target, log_id, lambda _: sorted([*others, row], key=lambda each: each["leaf_index"]))

    return change


def twice(folder: Path, log_id: str) -> None:
    """Each row group once more."""
    path = file_of(folder, "events", log_id)
    table = pq.read_table(path)
    with pq.ParquetWriter(path, EVENT_FILE) as writer:
        writer.write_table(table)
        writer.write_table(table)


def with_another_column(folder: Path, log_id: str) -> None:
    path = file_of(folder, "events", log_id)
    table = pq.read_table(path)
    pq.write_table(table.append_column("more", pa.array([1] * len(table))), path)


# In "all" the second log's leaf 0 opens it, and leaf 1 is a heartbeat.
# The first log's leaf 0 opens it, leaves 1 … 8 are model.access, 9 quarantined, 10 a conflict, 11 class other.
# In "flagged" its interval begins at the batch leaf 16, and leaves 17 and 21 are flagged.
ATTACKS = [
    Attack("bit flip in a header", ("range.root",), None, header_at(5, emitter="gatewby")),
    Attack("header that is no header", ("leaf.malformed",), 5, at(5, header=b'{"action":')),
    Attack("header with an extra key", ("leaf.malformed",), 5, header_at(5, extra=1)),
    Attack("bit flip in a payload", ("payload.hash",), 5, flip("payload", 5)),
    Attack("bit flip in a salt", ("payload.hash", "facts.hash"), 5, flip("salt", 5)),
    Attack("bit flip in facts", ("facts.hash", "facts.mismatch"), 5, flip("facts", 5)),
    Attack("payload removed", ("payload.hash",), 5, at(5, payload=None)),
    Attack("salt removed", ("salt.missing",), 5, at(5, salt=None)),
    Attack("facts removed", ("facts.hash", "facts.mismatch"), 5, at(5, facts=None)),
    Attack("payloads of two leaves exchanged", ("payload.hash",), 4, on("events", swap_payloads)),
    Attack("delete one", ("leaf.missing",), 5, delete(5)),
    Attack("delete a run", ("leaf.missing",), 3, delete(3, 4)),
    Attack("insert a copy", ("leaf.duplicate",), 5, on("events", insert)),
    Attack("insert and renumber", ("range.root",), None, on("events", insert_and_renumber)),
    Attack("reorder", ("leaf.order",), 4, on("events", swap)),
    Attack("reorder and renumber", ("range.root", "leaf.order"), None, on("events", swap_and_renumber)),
    Attack("truncate the tail", ("leaf.missing",), 40, on("events", lambda rows: rows[:40])),
    Attack("leaf of another log", ("leaf.log_id",), 5, header_at(5, log_id="0" * 32)),
    Attack("typed column edited", ("column.mismatch",), 5, at(5, actor_id="nobody")),
    Attack("typed header column edited", ("column.mismatch",), 1, at(1, flagged=False)),
    Attack("typed column nulled", ("column.mismatch",), 5, at(5, client_address=None)),
    Attack("typed list edited", ("column.mismatch",), 1, at(1, rule_ids=[])),
    Attack("payload given to a log leaf", ("payload.hash",), 0, at(0, payload=b"x")),
    Attack("milder determination", ("facts.mismatch",), 1, on("events", milder)),
    Attack("batch counts fewer", ("batch.counts",), 31, on("events", lambda rows: batch_claims(rows, sealed=3))),
    Attack("batch skips the journal", ("batch.contiguity",), 31,
           on("events", lambda rows: batch_claims(rows, **{"from": 17}))),
    Attack("batch names another epoch", ("epoch.unknown",), 31,
           on("events", lambda rows: batch_claims(rows, epoch={"number": 9, "digest": "0" * 64}))),
    Attack("batch is no batch", ("leaf.malformed",), 31, on("events", lambda rows: batch_claims(rows, watermark=7))),
    Attack("withheld header altered", ("range.root",), None, header_at(18, "withheld", emitter="gatewby"), "flagged"),
    Attack("withheld leaf removed", ("leaf.missing",), 18, delete(18, side="withheld"), "flagged"),
    Attack("flagged event moved to withheld", ("selection.omitted",), 21, move(21, "events", "withheld"), "flagged"),
    Attack("heartbeat removed", ("leaf.missing",), 1, delete(1), log=1),
    Attack("heartbeat removed and renumbered", ("batch.counts",), None, on("events", without_and_renumber(1)), log=1),
    Attack("row groups twice", ("leaf.order",), 0, twice),
    Attack("a column more", ("file.malformed",), None, with_another_column),
    Attack("header that is nested too deeply", ("leaf.malformed",), 5, at(5, header=b'{"action":' * 50_000)),
    Attack("facts that are nested too deeply", ("facts.hash", "facts.mismatch"), 5, at(5, facts=b'{"v":' * 50_000)),
]  # fmt: skip


def _codes(report: Report, code: str) -> list[tuple[str, int] | None]:
    return [fault.leaf for fault in report.faults if fault.code == code]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name.replace(" ", "-"))
@pytest.mark.parametrize("insider", [False, True], ids=["outsider", "insider"])
def test_an_altered_file_is_detected(attack: Attack, insider: bool, copy: Copy, world: World) -> None:
    folder, log_id = copy(attack.package), world.logs[attack.log].log_id
    attack.change(folder, log_id)
    if insider:
        repair(folder, world.key)
    report = verify_package(folder, world.trust)
    assert report.verdict == "INVALID" and report.exit_code == 1
    assert ("file.digest" in report.fault_counts) is not insider
    for code in attack.codes:
        where = _codes(report, code)
        assert where, (code, report.faults[:5])
        if attack.leaf is not None:
            assert (log_id, attack.leaf) in where, (code, where)


def test_the_leaves_the_attacks_are_aimed_at(packages: dict[str, Path], world: World) -> None:
    log_id = world.logs[0].log_id
    shown = {row["leaf_index"]: row["class"] for row in rows_of(file_of(packages["flagged"], "events", log_id))}
    hidden = [row["leaf_index"] for row in rows_of(file_of(packages["flagged"], "withheld", log_id))]
    assert shown[31] == "audit.batch" and 18 in hidden and shown[21] == "model.access"


# Attacks on the manifest itself. Without the signing key they fail at the signature.


def _log(predicate: dict[str, Any], world: World, number: int = 0) -> dict[str, Any]:
    return next(log for log in predicate["logs"] if log["log_id"] == world.logs[number].log_id)


def _note(world: World, log_id: str, size: int, root: bytes, key: Ed25519PrivateKey | None = None) -> str:
    return sign_checkpoint(Checkpoint(log_origin(DEPLOYMENT, log_id), size, root), key or world.key)


def drop_log(predicate: dict[str, Any], world: World) -> None:
    predicate["logs"].remove(_log(predicate, world, 1))


def replace_proof(predicate: dict[str, Any], world: World) -> None:
    proof = _log(predicate, world)["range_proof"]
    proof["left"][0] = base64.b64encode(b"\x05" * 32).decode()


def shorten_proof(predicate: dict[str, Any], world: World) -> None:
    _log(predicate, world)["range_proof"]["left"].pop()


def longer_right_proof(predicate: dict[str, Any], world: World) -> None:
    _log(predicate, world)["range_proof"]["right"].append(base64.b64encode(bytes(32)).decode())


def unsigned_checkpoint(predicate: dict[str, Any], world: World) -> None:
    stranger = Ed25519PrivateKey.generate()
    log = _log(predicate, world)
    log["checkpoint"] = _note(world, log["log_id"], 48, bytes(32), stranger)


def checkpoint_of_another_log(predicate: dict[str, Any], world: World) -> None:
    _log(predicate, world)["checkpoint"] = _log(predicate, world, 1)["checkpoint"]


def malformed_checkpoint(predicate: dict[str, Any], world: World) -> None:
    _log(predicate, world)["checkpoint"] = "auditspan"


def fork(predicate: dict[str, Any], world: World) -> None:
    """A second tree of the same size, signed too."""
    log = _log(predicate, world)
    log["checkpoint"] = _note(world, log["log_id"], int(log["checkpoint"].split("\n")[1]), b"\x09" * 32)


def roll_back(predicate: dict[str, Any], world: World) -> None:
    """The checkpoint of an earlier size."""
    log = _log(predicate, world)
    first = next(each for each in world.checkpoints if each.log_id == log["log_id"])
    log["checkpoint"] = first.note


def other_previous(predicate: dict[str, Any], world: World) -> None:
    log = _log(predicate, world)
    log["previous"]["checkpoint"] = _note(world, log["log_id"], 20, b"\x03" * 32)


def narrow_interval(predicate: dict[str, Any], world: World) -> None:
    predicate["query"]["from"] = "0"


def wide_interval(predicate: dict[str, Any], world: World) -> None:
    predicate["query"]["to"] = str(2**62)


def earlier_end(predicate: dict[str, Any], world: World) -> None:
    predicate["query"]["to"] = str(world.control.rows[0]["arrival_time"] + 35_000_000_000)


def later_start(predicate: dict[str, Any], world: World) -> None:
    predicate["query"]["from"] = str(world.control.rows[0]["arrival_time"] + 99_000_000_000)


def other_query(predicate: dict[str, Any], world: World) -> None:
    predicate["query"]["where"] = "class = 'model.transfer'"


def no_query(predicate: dict[str, Any], world: World) -> None:
    predicate["query"]["where"] = None


def bad_query(predicate: dict[str, Any], world: World) -> None:
    predicate["query"]["where"] = "flagged = maybe"


def drop_included(predicate: dict[str, Any], world: World) -> None:
    predicate["control"]["included"] = []


def forge_included(predicate: dict[str, Any], world: World) -> None:
    leaf = next(each for each in predicate["control"]["included"] if "reference.activated" in each["leaf"])
    leaf["leaf"] = leaf["leaf"].replace('"software":"test"', '"software":"tess"')


def other_deployment(predicate: dict[str, Any], world: World) -> None:
    predicate["deployment"] = "other"


def other_partition(predicate: dict[str, Any], world: World) -> None:
    _log(predicate, world)["partition"] = "events-7"


def other_counts(predicate: dict[str, Any], world: World) -> None:
    predicate["counts"]["flagged"] -= 1


def future_format(predicate: dict[str, Any], world: World) -> None:
    predicate["format"] = 2


def no_logs_key(predicate: dict[str, Any], world: World) -> None:
    del predicate["logs"]


MANIFEST_ATTACKS: dict[Callable[[dict[str, Any], World], None], set[str]] = {
    drop_log: {"log.missing"},
    replace_proof: {"range.root"},
    shorten_proof: {"range.root"},
    longer_right_proof: {"range.root"},
    unsigned_checkpoint: {"checkpoint.signature"},
    checkpoint_of_another_log: {"checkpoint.origin"},
    malformed_checkpoint: {"checkpoint.malformed"},
    fork: {"range.root"},
    roll_back: {"checkpoint.size"},
    other_previous: {"consistency"},
    narrow_interval: {"interval.start"},
    wide_interval: {"interval.end"},
    earlier_end: {"interval.end"},
    later_start: {"interval.start"},
    other_query: {"selection.omitted", "selection.extra"},
    no_query: {"selection.omitted"},
    bad_query: {"manifest.malformed"},
    drop_included: {"control.inclusion", "epoch.unknown"},
    forge_included: {"control.inclusion", "epoch.unknown"},
    other_deployment: {"manifest.signature", "checkpoint.origin"},
    other_partition: {"control.inclusion"},
    other_counts: {"manifest.malformed"},
    future_format: {"manifest.malformed"},
    no_logs_key: {"manifest.malformed"},
}


@pytest.mark.parametrize("change", MANIFEST_ATTACKS, ids=lambda change: change.__name__)
def test_an_altered_manifest_is_detected(
    change: Callable[[dict[str, Any], World], None], copy: Copy, world: World
) -> None:
    folder = copy("last minute" if change in (drop_included, forge_included) else "later")
    repair(folder, world.key, lambda predicate: change(predicate, world))
    report = verify_package(folder, world.trust)
    assert report.verdict == "INVALID"
    assert set(report.fault_counts) >= MANIFEST_ATTACKS[change], report.faults[:6]


def test_without_the_key_no_manifest_can_be_made(copy: Copy, world: World) -> None:
    folder = copy("all")
    sign(folder, statement_of(folder), Ed25519PrivateKey.generate())
    report = verify_package(folder, world.trust)
    assert set(report.fault_counts) == {"manifest.signature"} and report.keys == []


def test_an_altered_envelope_is_detected(copy: Copy, world: World) -> None:
    folder = copy("all")
    envelope = json.loads((folder / "manifest.json").read_bytes())
    payload = base64.b64decode(envelope["payload"]).replace(b'"where":null', b'"where":"x"')
    envelope["payload"] = base64.b64encode(payload).decode()
    (folder / "manifest.json").write_text(json.dumps(envelope))
    assert "manifest.signature" in verify_package(folder, world.trust).fault_counts


def test_keys_of_another_deployment_do_not_verify(packages: dict[str, Path]) -> None:
    stranger = Trust(DEPLOYMENT, (Ed25519PrivateKey.generate().public_key(),))
    report = verify_package(packages["all"], stranger)
    assert {"manifest.signature", "checkpoint.signature"} <= set(report.fault_counts)


def test_a_dropped_file_makes_a_package_incomplete(copy: Copy, world: World) -> None:
    for name in (f"withheld/{world.logs[0].log_id}-00000.parquet", f"events/{world.logs[1].log_id}-00000.parquet"):
        folder = copy("flagged") if name.startswith("withheld") else copy("later")
        (folder / name).unlink()
        report = verify_package(folder, world.trust)
        assert report.verdict == "INCOMPLETE" and report.exit_code == 2, report.faults[:5]
        assert set(report.fault_counts) == {"file.missing"}


def test_a_dropped_artifact_is_missing(copy: Copy, world: World) -> None:
    folder = copy("all")
    artifact = next((folder / "reference").iterdir())
    artifact.unlink()
    assert verify_package(folder, world.trust).verdict == "INCOMPLETE"
    repair(folder, world.key)
    assert set(verify_package(folder, world.trust).fault_counts) == {"reference.digest"}


def test_an_altered_artifact_is_detected(copy: Copy, world: World) -> None:
    folder = copy("all")
    next((folder / "reference").iterdir()).write_bytes(b"rules: [all]\n")
    assert set(verify_package(folder, world.trust).fault_counts) == {"file.digest"}
    repair(folder, world.key)
    assert set(verify_package(folder, world.trust).fault_counts) == {"reference.digest"}


def test_the_manifest_of_another_package_does_not_fit(copy: Copy, packages: dict[str, Path], world: World) -> None:
    folder = copy("all")
    (folder / "manifest.json").write_bytes((packages["other"] / "manifest.json").read_bytes())
    assert {"file.missing", "file.unlisted"} <= set(verify_package(folder, world.trust).fault_counts)


def test_a_package_of_two_honest_ones_is_detected(copy: Copy, packages: dict[str, Path], world: World) -> None:
    """A log of the same deployment under the same partition, of which this control log knows nothing."""
    folder = copy("flagged")
    other = statement_of(packages["other"])["predicate"]["logs"][0]
    for paths in other["files"].values():
        for path in paths:
            (folder / path).write_bytes((packages["other"] / path).read_bytes())

    def change(predicate: dict[str, Any]) -> None:
        predicate["logs"][0] = other

    repair(folder, world.key, change)
    found = set(verify_package(folder, world.trust).fault_counts)
    assert {"log.missing", "control.inclusion"} <= found


def test_a_control_leaf_altered_is_detected(copy: Copy, world: World) -> None:
    folder = copy("all")

    def act(rows: list[dict[str, Any]]) -> None:
        row = next(row for row in reversed(rows) if row["class"] == "audit.checkpoint")
        body = json.loads(row["header"])["body"]
        body["body"]["checkpoints"].pop()
        header(row, body=body)

    edit(folder, "control", world.control.log_id, act)
    repair(folder, world.key, lambda predicate: drop_log(predicate, world))
    assert "range.root" in verify_package(folder, world.trust).fault_counts


def test_the_control_log_saw_another_history(tmp_path: Path) -> None:
    """A fork: the log is sealed anew after its checkpoint went into the control log."""
    from exported import export

    from auditspan.store.clickhouse import ClickHouseStore

    world = World("forked", logs=1)
    world.logs[0].event(world.logs[0].watermark + 1, sequence=0)
    world.batch(world.logs[0].watermark)
    stated = json.loads(world.control.rows[-2]["header"])["body"]["body"]["checkpoints"][0]
    forked = World("forked", logs=1)
    forked.logs[0].event(forked.logs[0].watermark + 2, sequence=0)
    forked.batch(forked.logs[0].watermark)
    # The control log of the first history beside the data log of the second.
    mixed = forked
    mixed.control, mixed.checkpoints = world.control, [forked.checkpoints[0], world.checkpoints[1]]
    made = ClickHouseStore.embedded(tmp_path / "store")
    made.migrate()
    mixed.store_into(made)
    export(made, mixed, tmp_path / "package", time_from=0, time_to=2**62)
    made.close()
    report = verify_package(tmp_path / "package", mixed.trust)
    assert set(report.fault_counts) == {"consistency"}, report.faults
    assert report.faults[0].leaf is not None and report.faults[0].actual == base64.b64decode(stated["root"]).hex()


def test_jcs_of_the_tests_is_that_of_the_product() -> None:
    from auditspan.canonical import canonical_json

    assert jcs({"b": ["é", None, 3], "a": True}) == canonical_json({"b": ["é", None, 3], "a": True})
