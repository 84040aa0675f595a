-- Who vouches for the control log's checkpoints: RFC 3161 tokens in base64, and signature lines of witnesses
-- (docs/evidence-format.md section 16). `anchored_at` is the time that the authority or witness states. A row again is
-- the same row.
CREATE TABLE IF NOT EXISTS auditspan.anchors
(
    log_id LowCardinality(String),
    size UInt64,
    kind LowCardinality(String),
    name LowCardinality(String),
    content String CODEC(ZSTD(1)),
    anchored_at DateTime64(9, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (log_id, size, kind, name)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
