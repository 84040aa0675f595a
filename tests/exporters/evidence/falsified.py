"""All attacks as prepared packages: those of the matrix, and more for places of the verifier that these do not reach.

``altered_*`` change a package that is there; ``sealed_*`` have somebody with the signing key seal what is not so.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anchored import Vouchers, anchor_attacks
from auditspan.exporters.evidence.zipped import zip_package
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from falsified_determinations import false_determinations
from falsified_keys import falsify_keys
from falsified_recovery import falsify_recoveries
from prepared import Workshop
from sealed_world import DEPLOYMENT, SECOND, T0, Log, World
from tampering import Rows, edit, file_of, header, place_of, repair, rows_of, sign, sign_bytes, statement_of, write_rows
from test_attack_matrix import (
    ATTACKS,
    MANIFEST_ATTACKS,
    at,
    batch_claims,
    drop_included,
    drop_log,
    forge_included,
    header_at,
    on,
)
from test_closed_logs import DISHONEST, close, dishonest
from test_sealed_falsehoods import FALSE, hidden_as

from auditspan.ledger.checkpoint import Checkpoint, log_origin, sign_checkpoint
from auditspan.ledger.merkle import CompactRange, inclusion_proof
from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.contract import StoredCheckpoint

__all__ = ["falsify"]

Change = Callable[[Path], Any]


def falsify(workshop: Workshop, store: ClickHouseStore, vouchers: Vouchers) -> None:
    """Every attack that is known, into ``workshop``."""
    matrix(workshop)
    altered_files(workshop)
    altered_folders(workshop)
    altered_manifests(workshop)
    altered_headers(workshop)
    ends_of_logs(workshop, store)
    sealed_falsehoods(workshop, store)
    sealed_rounds(workshop, store)
    anchor_attacks(workshop, store, vouchers)
    falsify_keys(workshop, store)
    falsify_recoveries(workshop, store)
    zip_files(workshop)
    sealed_requests(workshop, store)


def matrix(workshop: Workshop) -> None:
    world = workshop.world
    for attack in ATTACKS:

        def change(folder: Path, attack: Any = attack) -> None:
            attack.change(folder, world.logs[attack.log].log_id)
            repair(folder, world.key)

        workshop.of_package(attack.name, attack.package, change, *((code, attack.leaf) for code in attack.codes))
    for alter, codes in MANIFEST_ATTACKS.items():

        def change_manifest(folder: Path, alter: Any = alter) -> None:
            repair(folder, world.key, lambda predicate: alter(predicate, world))

        package = "last minute" if alter in (drop_included, forge_included) else "later"
        for code in codes:
            workshop.of_package(f"{alter.__name__}: {code}", package, change_manifest, (code, None))


def altered_folders(workshop: Workshop) -> None:
    """What needs no key: the digests and the signature of the manifest."""
    world = workshop.world

    def link(path: str) -> Change:
        def change(folder: Path) -> None:
            moved = folder.with_suffix(".moved")
            (folder / path).rename(moved)
            (folder / path).symlink_to(moved)

        return change

    def flip(folder: Path) -> None:
        path = file_of(folder, "events", world.logs[0].log_id)
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    def by_a_stranger(folder: Path) -> None:
        sign(folder, statement_of(folder), Ed25519PrivateKey.generate())

    workshop.of_package("a flipped bit", "all", flip, ("file.digest", None))
    workshop.of_package("a link", "all", link("VERIFY.md"), ("manifest.path", None))
    workshop.of_package("a manifest that is a link", "all", link("manifest.json"), ("manifest.path", None))
    workshop.of_package("no manifest", "all", lambda folder: (folder / "manifest.json").unlink(),
                        ("manifest.malformed", None))  # fmt: skip
    workshop.of_package("signed by a stranger", "all", by_a_stranger, ("manifest.signature", None))
    workshop.of_package("a file less", "all", lambda folder: (folder / "VERIFY.md").unlink(), ("file.missing", None))
    workshop.of_package("a file more", "all", lambda folder: (folder / "extra").touch(), ("file.unlisted", None))
    workshop.of_package("a pipe more", "all", lambda folder: os.mkfifo(folder / "extra"), ("manifest.path", None))


def altered_files(workshop: Workshop) -> None:
    """Parquet that is none, or whose rows are not where they belong; the digests are repaired."""
    world, log_id = workshop.world, workshop.world.logs[0].log_id

    def content(change: Callable[[bytes], bytes]) -> Change:
        def act(folder: Path) -> None:
            path = file_of(folder, "events", log_id)
            path.write_bytes(change(path.read_bytes()))
            repair(folder, world.key)

        return act

    def rows(side: str, change: Callable[[Rows], Rows | None]) -> Change:
        def act(folder: Path) -> None:
            edit(folder, side, log_id, change)
            repair(folder, world.key)

        return act

    def beyond(given: Rows) -> Rows:
        return [*given, given[-1] | {"leaf_index": 10_000}]

    def on_both_sides(folder: Path) -> None:
        shown = rows_of(file_of(folder, "events", log_id))
        path = file_of(folder, "withheld", log_id)
        write_rows(path, sorted([*rows_of(path), shown[place_of(shown, 21)]], key=lambda row: row["leaf_index"]))
        repair(folder, world.key)

    def without_artifact(folder: Path) -> None:
        next((folder / "reference").iterdir()).unlink()
        repair(folder, world.key)

    workshop.of_package("no Parquet", "all", content(lambda _: b"no Parquet"), ("file.malformed", None))
    workshop.of_package("a page that is none", "all", content(lambda given: given[:40] + bytes(400) + given[440:]),
                        ("file.malformed", None))  # fmt: skip
    workshop.of_package("statistics that hide rows", "all", content(hide_by_statistics), ("file.malformed", None))
    workshop.of_package("a leaf beyond the end", "all", rows("events", beyond), ("leaf.order", 10_000))
    workshop.of_package("a leaf on both sides", "flagged", on_both_sides, ("leaf.duplicate", 21))
    workshop.of_package("no artifact", "all", without_artifact, ("reference.digest", None))


def hide_by_statistics(content: bytes) -> bytes:
    """Whoever asks for class ``other`` is told that no row can have it."""
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    assert content[footer:].count(b"other") == 1, "as the greatest value"
    return content[:footer] + content[footer:].replace(b"other", b"audit")


def altered_manifests(workshop: Workshop) -> None:
    world = workshop.world
    first, second = world.logs

    def predicate(change: Callable[[dict[str, Any]], Any]) -> Change:
        return lambda folder: repair(folder, world.key, change)

    def log(value: dict[str, Any]) -> dict[str, Any]:
        return next(each for each in value["logs"] if each["log_id"] == first.log_id)

    def beyond_what_is_signed(value: dict[str, Any]) -> None:
        log(value)["interval"][1] += 5

    def begins_within_a_batch(folder: Path) -> None:
        edit(folder, "events", first.log_id, lambda given: given[1:])
        repair(folder, world.key, lambda value: log(value)["interval"].__setitem__(0, 17))

    def rolled_back(folder: Path) -> None:
        earlier = next(each for each in world.checkpoints if each.log_id == first.log_id)
        edit(folder, "events", first.log_id, lambda given: given[: earlier.size])
        repair(folder, world.key, lambda value: log(value).update(interval=[0, earlier.size], checkpoint=earlier.note))

    def control_leaves(kind: str) -> list[int]:
        return [row["leaf_index"] for row in world.control.rows if row["class"] == kind]

    def of_no_text(folder: Path) -> None:
        """A deployment whose name no bytes can be made of, in the note as well."""
        strange = "a\ud800"
        statement = statement_of(folder)
        for entry in (*statement["predicate"]["logs"], statement["predicate"]["control"]):
            entry["checkpoint"] = entry["checkpoint"].replace(f"/{DEPLOYMENT}/", f"/{strange}/")
        statement["predicate"]["deployment"] = strange
        sign_bytes(folder, json.dumps(statement).encode(), world.key)

    def outside(folder: Path) -> None:
        statement = statement_of(folder)
        statement["subject"].append({"name": "../outside", "digest": {"sha256": "0" * 64}})
        sign(folder, statement, world.key)

    workshop.of_package("a path outside", "all", outside, ("manifest.path", None))
    workshop.of_package("a name that is no text", "all", of_no_text, ("checkpoint.malformed", None))

    last_round, opened = control_leaves("audit.checkpoint")[-1], control_leaves("audit.log.opened")[-1]
    dropped = predicate(lambda value: drop_log(value, world))
    assert second.log_id in world.control.rows[opened]["header"].decode()
    workshop.of_package("a log less than in the last round", "all", dropped, ("log.missing", last_round))
    workshop.of_package("a log less than were opened", "all", dropped, ("log.missing", opened))
    workshop.of_package("more than is signed", "all", predicate(beyond_what_is_signed), ("checkpoint.size", None))
    workshop.of_package("begins within a batch", "flagged", begins_within_a_batch, ("interval.start", 17))
    workshop.of_package("rolled back", "all", rolled_back, ("checkpoint.size", last_round))


def altered_headers(workshop: Workshop) -> None:
    """Headers that no longer fit the tree, and what else is wrong with them."""
    world, log_id = workshop.world, workshop.world.logs[0].log_id

    def by(change: Callable[[Path, str], None]) -> Change:
        def act(folder: Path) -> None:
            change(folder, log_id)
            repair(folder, world.key)

        return act

    def opens_another(rows: Rows) -> None:
        header(rows[0], body=json.loads(rows[0]["header"])["body"] | {"partition": "events-7"})

    def claims(**values: Any) -> Change:
        return by(on("events", lambda rows: batch_claims(rows, **values)))

    def no_round(folder: Path) -> None:
        def change(rows: Rows) -> None:
            for row in rows:
                if row["class"] == "audit.checkpoint":
                    header(row, **{"class": "audit.heartbeat"})
                    row["class"] = "audit.heartbeat"

        edit(folder, "control", world.control.log_id, change)
        repair(folder, world.key)

    until = world.logs[0].rows[31]
    end = json.loads(until["header"])["body"]["to"]
    workshop.of_package("opened as another log", "all", by(on("events", opens_another)), ("leaf.malformed", 0))
    workshop.of_package("another length", "all", by(header_at(5, payload_length=1)), ("payload.hash", 5))
    workshop.of_package("another outcome", "all", by(header_at(5, determination="prohibited")), ("facts.mismatch", 5))
    workshop.of_package("other rules", "all", by(header_at(5, rule_ids=["x"])), ("facts.mismatch", 5))
    workshop.of_package("facts of a log leaf", "all", by(at(0, facts=b"x")), ("facts.hash", 0))
    workshop.of_package("epoch of another digest", "all", claims(epoch={"number": 1, "digest": "0" * 64}),
                        ("epoch.unknown", 31))  # fmt: skip
    workshop.of_package("ends before its entries", "all", claims(to=end - 1), ("batch.contiguity", 31))
    workshop.of_package("watermark falls", "all", claims(watermark="1"), ("batch.contiguity", 31))
    workshop.of_package("no round", "all", no_round, ("log.missing", None))


def ends_of_logs(workshop: Workshop, store: ClickHouseStore) -> None:
    for end in DISHONEST:
        world, leaf = dishonest(end.__name__, end)
        workshop.of_world(store, world, ("log.closed", leaf))

    def a_batch_of_repetitions_follows(log: Log, epochs: dict[int, str]) -> int:
        close(log, epochs)
        log.offset += 1
        return log.batch(epochs, duplicates=1)

    world, leaf = dishonest("a batch of repetitions follows", a_batch_of_repetitions_follows)
    workshop.of_world(store, world, ("log.closed", leaf))
    world = World("follows outside", logs=1)
    log = world.logs[0]
    close(log, world.epochs)
    closing = len(log.rows) - 1
    log.event(T0 + 20 * SECOND, sequence=1)
    world.batch(T0 + 30 * SECOND)
    workshop.of_world(store, world, ("log.closed", closing + 1), time_to=T0)
    world = World("never closes", logs=1)
    log = world.logs[0]
    log.event(T0, sequence=0)
    world.batch(T0 + SECOND)
    leaf = log.log_leaf("audit.log.closed", {"successor": {"generation": 2, "partitions": 1}})
    log.batches.append((leaf, leaf + 1))
    world.checkpoints.append(log.checkpoint(world.key))
    workshop.of_world(store, world, ("log.closed", leaf))


def sealed_falsehoods(workshop: Workshop, store: ClickHouseStore) -> None:
    """All leaves are in the signed tree."""

    def begun(name: str) -> tuple[World, Log]:
        world = World(name, logs=1)
        world.logs[0].event(T0, sequence=0)
        return world, world.logs[0]

    world, log = begun("goes back in the journal")
    log.offset = 5
    world.batch(T0 + SECOND)
    log.offset = 2
    leaf = log.event(T0 + 2 * SECOND, sequence=1)
    log.offset = 6
    world.batch(T0 + 3 * SECOND)
    workshop.of_world(store, world, ("batch.contiguity", leaf))

    world, log = begun("older epoch")
    world.activate(2)
    world.batch(T0 + SECOND)
    log.epoch = 1
    leaf = log.event(T0 + 2 * SECOND, sequence=1)
    log.epoch = 2
    world.batch(T0 + 3 * SECOND)
    workshop.of_world(store, world, ("batch.epoch", leaf))

    world, _ = begun("epoch that is another")
    world.epochs[1] = "0" * 64
    world.batch(T0 + SECOND)
    workshop.of_world(store, world, ("epoch.unknown", None))

    world, log = begun("facts of another version")
    document = {"v": 2, "governing": "review", "flagged": False, "destination": None, "eccn": None, "rules": []}
    leaf = log.event(T0 + SECOND, sequence=1, facts=document)
    world.batch(T0 + 2 * SECOND)
    workshop.of_world(store, world, ("facts.mismatch", leaf))

    world, log = begun("many false outcomes")
    for number in range(250):
        log.event(T0 + number, sequence=number + 1, determination="prohibited")
    world.batch(T0 + SECOND)
    workshop.of_world(store, world, counts={"facts.mismatch": 250})

    for field, said in FALSE.items():
        world, log = begun(f"false {field}")
        leaf = log.event(T0 + SECOND, sequence=1, says=said)
        world.batch(T0 + 2 * SECOND)
        workshop.of_world(store, world, ("header.mismatch", leaf))
    world, log = begun("hidden as unreadable")
    hidden = hidden_as("request.undecodable", f"position:{log.log_id}:{log.offset}:0")
    leaf = log.event(T0 + SECOND, sequence=1, facts=None, says=hidden)
    world.batch(T0 + 2 * SECOND)
    workshop.of_world(store, world, ("header.mismatch", leaf))

    world, _ = begun("unreadable epoch")
    leaf = world.control.control("audit.reference.activated", {"number": "one", "artifacts": []}, T0)
    world.batch(T0 + SECOND)
    workshop.of_world(store, world, ("leaf.malformed", leaf))

    foreign_leaves(workshop, store)
    false_determinations(workshop, store)


def zip_files(workshop: Workshop) -> None:
    """A package in a zip file that two programs could read in two ways."""

    def packed(folder: Path) -> None:
        made = folder.with_suffix(".packed")
        zip_package(folder, made)
        shutil.rmtree(folder)
        made.write_bytes(made.read_bytes() + b"x")
        made.rename(folder)

    workshop.of_package("bytes behind a zip", "all", packed, ("file.malformed", None))


def sealed_requests(workshop: Workshop, store: ClickHouseStore) -> None:
    """The package says that it answers a request that nobody sealed, or another one."""
    asked = {"id": "r-1", "by": "an auditor", "basis": "15 CFR 762.7"}

    def answers(value: dict[str, Any]) -> None:
        value["request"] = asked

    def nobody_asked(folder: Path) -> None:
        repair(folder, workshop.world.key, answers)

    workshop.of_package("a request that nobody sealed", "all", nobody_asked, ("control.inclusion", None))
    world = World("another request", logs=1)
    world.logs[0].event(T0, sequence=0)
    query = {"from": "0", "to": str(2**62), "where": "flagged = true"}
    leaf = world.control.control("evidence.requested", {**asked, **query}, T0)
    world.batch(T0 + SECOND)
    workshop.of_world(store, world, ("control.inclusion", leaf), change=answers)


def foreign_leaves(workshop: Workshop, store: ClickHouseStore) -> None:
    """The control log holds what is none of its leaves, and the package includes it as one."""
    for name, code in (("an event", "leaf.malformed"), ("another log's", "leaf.log_id")):
        world = World(f"includes {name}", logs=1)
        if code == "leaf.malformed":
            leaf = world.control.event(T0)
        else:
            own, world.control.log_id = world.control.log_id, "e" * 32
            leaf = world.control.log_leaf("audit.heartbeat", {}, position=True, arrival=T0)
            world.control.log_id = world.control.rows[leaf]["log_id"] = own
        for second in range(0, 90, 30):
            world.logs[0].event(T0 + second * SECOND)
            world.batch(T0 + second * SECOND)

        def include(predicate: dict[str, Any], world: World = world, leaf: int = leaf) -> None:
            size = int(predicate["control"]["checkpoint"].split("\n")[1])
            predicate["control"]["included"].append(included(world.control, leaf, size))

        workshop.of_world(store, world, (code, leaf), change=include, time_from=T0 + 50 * SECOND)


def included(log: Log, leaf: int, size: int) -> dict[str, Any]:
    """An entry of ``included`` with its proof."""
    hashes = [hashlib.sha256(b"\x00" + row["header"]).digest() for row in log.rows[:size]]

    def root(begin: int, end: int) -> bytes:
        tree = CompactRange()
        tree.extend(hashes[begin:end])
        return tree.root()

    proof = [base64.b64encode(each).decode() for each in inclusion_proof(leaf, size, root)]
    return {"leaf_index": leaf, "leaf": log.rows[leaf]["header"].decode(), "inclusion": proof}


def sealed_rounds(workshop: Workshop, store: ClickHouseStore) -> None:
    """What rounds of checkpoints say of the logs is not so."""

    def grown(name: str) -> World:
        world = World(name)
        for number in range(2):
            for log in world.logs:
                log.event(T0 + number * 10 * SECOND, sequence=number, stream=log.partition)
            world.batch(T0 + number * 10 * SECOND + SECOND)
        return world

    def round_of(world: World, *stated: StoredCheckpoint) -> int:
        """Seal a round by hand; the index of its leaf."""
        named = [{"log_id": one.log_id, "size": one.size, "root": one.root, "note": one.note} for one in stated]
        leaf = world.control.control("audit.checkpoint", {"checkpoints": named}, T0 + 20 * SECOND)
        world.control.batch(world.epochs)
        world.checkpoints.append(world.control.checkpoint(world.key))
        return leaf

    def note(world: World, log: Log, size: int, root: bytes, key: Ed25519PrivateKey | None = None) -> str:
        return sign_checkpoint(Checkpoint(log_origin(DEPLOYMENT, log.log_id), size, root), key or world.key)

    world = grown("round with another's note")
    last = [log.checkpoint(world.key) for log in world.logs]
    earlier = next(each for each in world.checkpoints if each.log_id == world.logs[0].log_id)
    leaf = round_of(world, StoredCheckpoint(last[0].log_id, last[0].size, last[0].root, earlier.note, T0), last[1])
    workshop.of_world(store, world, ("checkpoint.malformed", leaf))

    world = grown("round with a stranger's note")
    last = [log.checkpoint(world.key) for log in world.logs]
    strange = world.logs[0].checkpoint(Ed25519PrivateKey.generate())
    leaf = round_of(world, strange, last[1])
    workshop.of_world(store, world, ("checkpoint.signature", leaf))

    world = grown("round of two minds")
    size = len(world.logs[0].rows)
    other = note(world, world.logs[0], size, b"\x07" * 32)
    encoded = other.split("\n")[2]
    leaf = round_of(world, StoredCheckpoint(world.logs[0].log_id, size, encoded, other, T0),
                    world.logs[1].checkpoint(world.key))  # fmt: skip
    world.batch(T0 + 30 * SECOND)
    workshop.of_world(store, world, ("consistency", leaf))

    world = World("round names none")
    for number in range(2):
        world.logs[0].event(T0 + number * SECOND, sequence=number)
        world.batch(T0 + number * SECOND, unnamed=[world.logs[1]])
    last_round = max(row["leaf_index"] for row in world.control.rows if row["class"] == "audit.checkpoint")
    workshop.of_world(store, world, ("log.missing", last_round))

    # The control log saw a history that is not the one whose leaves are here.
    world, other_world = World("two histories", logs=1), World("two histories", logs=1)
    for number, made in enumerate((world, other_world)):
        made.logs[0].event(T0 + number + 1, sequence=0)
        made.batch(T0 + SECOND)
    other_world.control, other_world.checkpoints = world.control, [other_world.checkpoints[0], world.checkpoints[1]]
    workshop.of_world(store, other_world, ("consistency", None))
