-- Roots of perfect subtrees, so that proofs need no rescan of leaves. A node never changes: a second copy is the same
-- row, and merges remove it.
CREATE TABLE IF NOT EXISTS auditspan.tree_nodes
(
    log_id LowCardinality(String),
    level UInt8,
    node_index UInt64 CODEC(DoubleDelta, LZ4),
    hash FixedString(32) CODEC(NONE)
)
ENGINE = ReplacingMergeTree
ORDER BY (log_id, level, node_index);

-- Signed checkpoints, as notes.
CREATE TABLE IF NOT EXISTS auditspan.checkpoints
(
    log_id LowCardinality(String),
    size UInt64,
    root String,
    note String,
    signed_at DateTime64(9, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (log_id, size, note)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
