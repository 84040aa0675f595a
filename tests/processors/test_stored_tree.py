"""A log followed in the store: signed is what was read back, whatever the nodes say."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from auditspan.processors.batch import LogContext
from auditspan.processors.metrics import LogMetrics
from auditspan.processors.processor import LogProcessor
from auditspan.processors.restore import node_table
from auditspan.processors.stored_tree import CheckpointDoubtful, SignedTree, StoredTree, contains, last_kept
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sealing_inputs import LOG_ID, access, entry, new, request

from auditspan.journal.sqlite import SqliteJournal
from auditspan.ledger.checkpoint import Checkpoint, log_origin, sign_checkpoint
from auditspan.ledger.merkle import EMPTY_ROOT
from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.contract import StoredCheckpoint

KEY = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)


class Sealing:
    """One processor that seals batch after batch of 300 records."""

    def __init__(
        self, journal: SqliteJournal, store: ClickHouseStore, context: LogContext, metrics: LogMetrics
    ) -> None:
        self.journal, self.store = journal, store
        self.processor = LogProcessor(journal, store, context, metrics, minimum_interval=0)
        self.count = 0

    def batch(self) -> None:
        body = request(*(access(300 * self.count + i) for i in range(300)))
        self.journal.append([new(entry(self.count, body))]).result()
        self.count += 1
        assert self.processor.run_once(0)

    def sign(self) -> SignedTree:
        tree = self.processor.tree
        note = sign_checkpoint(Checkpoint(log_origin("plant", LOG_ID), tree.size, tree.root), KEY)
        self.store.append_checkpoints(
            [StoredCheckpoint(LOG_ID, tree.size, base64.b64encode(tree.root).decode(), note, 1)]
        )
        return SignedTree(tree.size, tree.root, "a test")


@pytest.fixture
def sealing(journal: SqliteJournal, store: ClickHouseStore, context: LogContext, metrics: LogMetrics) -> Sealing:
    return Sealing(journal, store, context, metrics)


def test_it_sees_what_the_processor_read_back_batch_after_batch(sealing: Sealing) -> None:
    followed = StoredTree(sealing.store.reader(), LOG_ID)
    assert followed.look() == sealing.processor.tree
    assert followed.look().root == EMPTY_ROOT
    for _ in range(3):
        sealing.batch()
        assert followed.look() == sealing.processor.tree
        assert followed.watermark == sealing.processor.watermark
    assert followed.look() == sealing.processor.tree
    later = StoredTree(sealing.store.reader(), LOG_ID)
    assert later.look() == sealing.processor.tree


def test_it_begins_after_what_was_signed(sealing: Sealing) -> None:
    sealing.batch()
    signed = sealing.sign()
    sealing.batch()
    read: list[tuple[int, int]] = []

    class Watched(ClickHouseStore):
        def leaf_hashes(self, log_id: str, begin: int, end: int):
            read.append((begin, end))
            return super().leaf_hashes(log_id, begin, end)

    store = Watched(sealing.store._connect, sealing.store._lock, sealing.store._path)
    followed = StoredTree.after(store, LOG_ID, signed)
    read.clear()
    assert followed.look() == sealing.processor.tree
    assert read == [(signed.size, sealing.processor.tree.size)]


def test_nodes_that_lie_change_no_root_and_are_found_out(sealing: Sealing) -> None:
    sealing.batch()
    signed = sealing.sign()
    sealing.batch()
    honest = StoredTree.after(sealing.store, LOG_ID, signed).look()
    # A node of the leaves after the checkpoint: it is never looked at.
    wrong = node_table([(8, 1, b"\x00" * 32)])
    sealing.store.append_nodes(LOG_ID, wrong)
    sealing.store._connection.command("OPTIMIZE TABLE auditspan.tree_nodes FINAL")
    assert sealing.store.nodes(LOG_ID, 8, 1, 2)["hash"].to_pylist() == [b"\x00" * 32]
    assert StoredTree.after(sealing.store, LOG_ID, signed).look() == honest == sealing.processor.tree
    # One below the checkpoint: the signed root does not come out.
    sealing.store.append_nodes(LOG_ID, node_table([(8, 0, b"\x00" * 32)]))
    sealing.store._connection.command("OPTIMIZE TABLE auditspan.tree_nodes FINAL")
    with pytest.raises(CheckpointDoubtful, match="does not contain the tree of 302 leaves"):
        StoredTree.after(sealing.store, LOG_ID, signed)


def test_a_store_without_what_was_signed_is_doubtful(sealing: Sealing) -> None:
    sealing.batch()
    tree = sealing.processor.tree
    for other in (SignedTree(tree.size, b"x" * 32, "t"), SignedTree(tree.size + 5, tree.root, "t")):
        assert not contains(sealing.store, LOG_ID, tree.size, other)
        with pytest.raises(CheckpointDoubtful):
            StoredTree.after(sealing.store, LOG_ID, other)
    assert contains(sealing.store, LOG_ID, tree.size, SignedTree(tree.size, tree.root, "t"))
    assert contains(sealing.store, LOG_ID, tree.size, SignedTree(0, EMPTY_ROOT, "t"))
    assert not contains(sealing.store, LOG_ID, tree.size, SignedTree(0, b"x" * 32, "t"))


def test_leaves_that_vanish_are_no_smaller_tree(sealing: Sealing) -> None:
    sealing.batch()
    sealing.batch()
    followed = StoredTree(sealing.store, LOG_ID)
    followed.look()
    sealing.store._connection.command(
        "ALTER TABLE auditspan.events DELETE WHERE leaf_index >= 302 SETTINGS mutations_sync = 2"
    )
    with pytest.raises(CheckpointDoubtful, match="it had 603 leaves, and now shows 302"):
        followed.look()


def test_a_leaf_missing_in_the_middle_shows(sealing: Sealing) -> None:
    sealing.batch()
    sealing.store._connection.command(
        "ALTER TABLE auditspan.events DELETE WHERE leaf_index = 7 SETTINGS mutations_sync = 2"
    )
    with pytest.raises(CheckpointDoubtful, match="leaf 0 is missing or there twice"):
        StoredTree(sealing.store, LOG_ID).look()


def test_what_a_processor_of_this_process_read_back_need_not_be_read_again(sealing: Sealing) -> None:
    sealing.batch()
    followed = StoredTree(sealing.store, LOG_ID)
    sealing.batch()
    assert followed.adopt(*sealing.processor.read_back()) == sealing.processor.tree
    older = LogProcessor.read_back(sealing.processor)
    sealing.batch()
    assert followed.look() == sealing.processor.tree
    assert followed.adopt(*older) == sealing.processor.tree, "what is older changes nothing"


def test_a_checkpoint_counts_when_this_deployment_signed_it(sealing: Sealing) -> None:
    assert last_kept(sealing.store, LOG_ID, "plant", [KEY.public_key()]) is None
    sealing.batch()
    signed = sealing.sign()
    kept = last_kept(sealing.store, LOG_ID, "plant", [KEY.public_key()])
    assert kept is not None
    assert replace(kept, where="") == replace(signed, where="")
    stranger = Ed25519PrivateKey.generate().public_key()
    with pytest.raises(CheckpointDoubtful, match=r"checkpoint\.signature"):
        last_kept(sealing.store, LOG_ID, "plant", [stranger])
    with pytest.raises(CheckpointDoubtful, match=r"checkpoint\.origin"):
        last_kept(sealing.store, LOG_ID, "other", [KEY.public_key()])
