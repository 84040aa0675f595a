-- Packs, tables and registries of the reference epochs, by digest: a processor on another machine, or of another version,
-- judges under the epoch that is in force, and the control log names only digests.
CREATE TABLE IF NOT EXISTS auditspan.reference_artifacts
(
    sha256 String,
    content String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY sha256
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- What came of each stream: how many records are sealed, to which sequence, and what was odd. Identical repetitions are
-- suppressed and have no leaf: the audit.batch leaves count them for each log.
CREATE VIEW IF NOT EXISTS auditspan.streams AS
SELECT
    emitter, stream, log_id,
    count() AS leaves,
    min(sequence) AS first_sequence,
    max(sequence) AS last_sequence,
    countIf(has(faults, 'duplicate_suspect')) AS duplicate_suspects,
    countIf(class = 'audit.conflict') AS conflicts,
    countIf(class = 'audit.quarantined') AS quarantined,
    min(arrival_time) AS first_arrival,
    max(arrival_time) AS last_arrival
FROM auditspan.events
WHERE payload != ''
GROUP BY emitter, stream, log_id;
