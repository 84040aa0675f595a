-- The sealed event stream. `header`, `payload`, `salt` and `facts` are kept byte for byte; every other column is derived
-- from them. An empty text, payload, salt or facts stands for null: none of them is ever empty in the evidence.
-- Codecs, measured on batches of 50,000 leaves of 1.8 kB: ZSTD(1) on header and payload costs 3 % of an insert and saves
-- 35 % of the disk; salts and ids are random, so compressing them is time lost.
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

    -- What people look for: what is flagged, what came lately, one record, one trace. Together 10 % of an insert.
    INDEX flagged_granules flagged TYPE minmax GRANULARITY 1,
    INDEX arrival_granules arrival_time TYPE minmax GRANULARITY 1,
    INDEX record_granules record_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX trace_granules lower(hex(trace_id_raw)) TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY sealing_month
ORDER BY (log_id, leaf_index)
SETTINGS
    -- Without a window a deduplication token does nothing.
    non_replicated_deduplication_window = 10000,
    -- What was inserted lies in one file, not in several for each column: opening and syncing those took 50 ms of CPU,
    -- as long as all else in an insert of 10,000 leaves. Merged parts, which people query, have a file for each column.
    min_bytes_for_wide_part = 268435456,
    -- Leaves are read in order of leaf_index, which costs the same in many parts as in one, and a merge costs as much as
    -- the insert: merging 24 to 32 parts at a time instead of 5 rewrites a leaf less often. A merge holds a granule of
    -- each of its parts, so granules are small: 30 parts took 500 MB with 8192 rows in each, 180 with 2048.
    index_granularity = 2048,
    merge_selector_base = 24,
    max_parts_to_merge_at_once = 32,
    merge_max_block_size = 1024,
    merge_max_block_size_bytes = 1048576,
    -- Durable when acknowledged: a signed checkpoint rests on what was read back.
    fsync_after_insert = 1,
    fsync_part_directory = 1;

-- What a SOC analyst looks at first.
CREATE VIEW IF NOT EXISTS auditspan.flagged AS
SELECT
    record_id, class, event_time, arrival_time, actor_id, actor_type, action, outcome, target_id, target_type,
    destination_country, eccn, determination, rule_ids, citations, why, faults, emitter, client_address, service_name,
    trace_id, span_id, log_id, leaf_index
FROM auditspan.events
WHERE flagged;
