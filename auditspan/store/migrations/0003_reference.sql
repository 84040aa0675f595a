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
