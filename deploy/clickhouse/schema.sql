-- The schema of AuditSpan on one ClickHouse server, for the role auditspan_owner (roles.sql).
-- Generated from auditspan/store/migrations by `make docs`; do not edit.
-- Applying it again changes nothing. Processors then find their version and alter nothing.

CREATE DATABASE IF NOT EXISTS auditspan;

CREATE TABLE IF NOT EXISTS auditspan.migrations (version UInt32, name String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3)) ENGINE = MergeTree ORDER BY version SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS auditspan.events
(
    log_id LowCardinality(String),
    leaf_index UInt64 CODEC(DoubleDelta, LZ4),
    sealing_month UInt32 CODEC(LZ4),

    header String CODEC(ZSTD(1)),
    payload String CODEC(ZSTD(1)),
    salt String CODEC(NONE),
    facts LowCardinality(String),

    class LowCardinality(String),
    record_id String CODEC(LZ4),
    emitter LowCardinality(String),
    stream LowCardinality(String),
    sequence Nullable(Int64) CODEC(LZ4),
    event_time Nullable(DateTime64(9, 'UTC')) CODEC(LZ4),
    arrival_time Nullable(DateTime64(9, 'UTC')) CODEC(LZ4),
    time_basis LowCardinality(String),
    action LowCardinality(String),
    outcome LowCardinality(String),
    asset String CODEC(LZ4),
    eccn LowCardinality(String),
    destination_country LowCardinality(String),
    determination LowCardinality(String),
    flagged Bool,
    rule_ids Array(LowCardinality(String)),
    faults Array(LowCardinality(String)),
    reference_epoch Int64 CODEC(LZ4),

    trace_id_raw String CODEC(NONE),
    span_id_raw String CODEC(NONE),
    span_name LowCardinality(String),
    actor_id LowCardinality(String),
    actor_type LowCardinality(String),
    target_id String CODEC(LZ4),
    target_type LowCardinality(String),
    client_address LowCardinality(String),
    service_name LowCardinality(String),

    citations LowCardinality(String),
    why LowCardinality(String),

    trace_id String ALIAS lower(hex(trace_id_raw)),
    span_id String ALIAS lower(hex(span_id_raw)),
    leaf_hash FixedString(32) ALIAS SHA256(concat(unhex('00'), header)),

    INDEX flagged_granules flagged TYPE minmax GRANULARITY 1,
    INDEX arrival_granules arrival_time TYPE minmax GRANULARITY 1,
    INDEX record_granules record_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX trace_granules lower(hex(trace_id_raw)) TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY sealing_month
ORDER BY (log_id, leaf_index)
SETTINGS

    non_replicated_deduplication_window = 10000,


    min_bytes_for_wide_part = 268435456,



    index_granularity = 2048,
    merge_selector_base = 24,
    max_parts_to_merge_at_once = 32,
    merge_max_block_size = 1024,
    merge_max_block_size_bytes = 1048576,

    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE VIEW IF NOT EXISTS auditspan.flagged AS
SELECT
    record_id, class, event_time, arrival_time, actor_id, actor_type, action, outcome, target_id, target_type,
    destination_country, eccn, determination, rule_ids, citations, why, faults, emitter, client_address, service_name,
    trace_id, span_id, log_id, leaf_index
FROM auditspan.events
WHERE flagged;

INSERT INTO auditspan.migrations (version, name) SELECT 1, '0001_events' WHERE 1 NOT IN (SELECT version FROM auditspan.migrations);

CREATE TABLE IF NOT EXISTS auditspan.tree_nodes
(
    log_id LowCardinality(String),
    level UInt8,
    node_index UInt64 CODEC(DoubleDelta, LZ4),
    hash FixedString(32) CODEC(NONE)
)
ENGINE = ReplacingMergeTree
ORDER BY (log_id, level, node_index);

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

INSERT INTO auditspan.migrations (version, name) SELECT 2, '0002_tree' WHERE 2 NOT IN (SELECT version FROM auditspan.migrations);

CREATE TABLE IF NOT EXISTS auditspan.reference_artifacts
(
    sha256 String,
    content String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY sha256
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

INSERT INTO auditspan.migrations (version, name) SELECT 3, '0003_reference' WHERE 3 NOT IN (SELECT version FROM auditspan.migrations);

CREATE TABLE IF NOT EXISTS auditspan.suppressed
(
    log_id LowCardinality(String),
    first_leaf UInt64,
    emitter LowCardinality(String),
    stream LowCardinality(String),
    records UInt64
)
ENGINE = ReplacingMergeTree
ORDER BY (log_id, emitter, stream, first_leaf);

CREATE VIEW IF NOT EXISTS auditspan.streams AS
SELECT
    log_id, emitter, stream,
    sum(leaves_) AS leaves,
    min(first_) AS first_sequence,
    max(last_) AS last_sequence,
    sum(suppressed_) AS suppressed_duplicates,
    sum(suspects_) AS duplicate_suspects,
    sum(conflicts_) AS conflicts,
    sum(quarantined_) AS quarantined,
    max(newest_) AS last_arrival
FROM
(
    SELECT
        log_id, emitter, stream, count() AS leaves_, min(sequence) AS first_, max(sequence) AS last_,
        toUInt64(0) AS suppressed_, countIf(has(faults, 'duplicate_suspect')) AS suspects_,
        countIf(class = 'audit.conflict') AS conflicts_, countIf(class = 'audit.quarantined') AS quarantined_,
        max(arrival_time) AS newest_
    FROM auditspan.events
    WHERE payload != ''
    GROUP BY log_id, emitter, stream
    UNION ALL
    SELECT
        log_id, emitter, stream, 0, NULL, NULL, sum(records), 0, 0, 0, NULL
    FROM auditspan.suppressed FINAL
    GROUP BY log_id, emitter, stream
)
GROUP BY log_id, emitter, stream;

INSERT INTO auditspan.migrations (version, name) SELECT 4, '0004_streams' WHERE 4 NOT IN (SELECT version FROM auditspan.migrations);
