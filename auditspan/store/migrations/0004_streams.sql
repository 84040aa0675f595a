-- Repetitions that were suppressed, by stream: what the `duplicates` of a batch's audit.batch leaf consist of. For whoever
-- watches, and no evidence: a processor that is killed between sealing a batch and writing this leaves its rows out.
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

-- What came of each stream of each emitter; stream '' is everything that has no stream identity.
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
