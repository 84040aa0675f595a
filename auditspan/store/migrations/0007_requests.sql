-- Records of export requests, decisions and the transfers that name them, with what the join reads of their payloads
-- (docs/requests.md). Derived from sealed leaves by the owner of the control log, and no evidence: whoever doubts a row
-- reads the leaf. A row again is the same row, and merges remove it.
CREATE TABLE IF NOT EXISTS auditspan.request_records
(
    log_id LowCardinality(String),
    leaf_index UInt64,
    record_id String,
    class LowCardinality(String),
    request_id String,
    emitter LowCardinality(String),
    actor_id String,
    arrival_time DateTime64(9, 'UTC'),
    began DateTime64(9, 'UTC'),
    outcome LowCardinality(String),
    intent_id String,
    reference_epoch Int64,
    target_id String,
    artifact_digest String,
    model String,
    accelerator_model String,
    quantity Nullable(Int64),
    destination LowCardinality(String),
    consignee String,
    end_user String,
    final_recipient String,
    license String,
    approval LowCardinality(String),
    authority String,
    valid_until String,
    conditions String,

    INDEX request_granules request_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
ORDER BY (log_id, leaf_index)
SETTINGS index_granularity = 256, fsync_after_insert = 1, fsync_part_directory = 1;

-- What the log found wrong with them: sealed in the control log as export.finding. Only a log itself seals leaves of this
-- class without a payload. Of several on one record and kind the first counts.
CREATE VIEW IF NOT EXISTS auditspan.findings AS
WITH JSONExtractRaw(header, 'body', 'body') AS said
SELECT
    JSONExtractString(said, 'finding') AS finding,
    JSONExtractString(said, 'request_id') AS request_id,
    JSONExtractString(said, 'log_id') AS log_id,
    JSONExtractUInt(said, 'leaf_index') AS leaf_index,
    JSONExtractString(said, 'record_id') AS record_id,
    JSONExtractString(said, 'class') AS class,
    JSONExtractString(said, 'actor') AS actor,
    JSONExtractString(said, 'recipient') AS recipient,
    JSONExtractString(said, 'decided') AS decided,
    JSONExtractString(said, 'decision_record_id') AS decision_record_id,
    JSONExtractString(said, 'why') AS why,
    JSONExtractString(said, 'authority') AS authority,
    JSONExtractString(said, 'citation') AS citation,
    arrival_time AS found_at,
    events.log_id AS control_log_id,
    events.leaf_index AS control_leaf
FROM auditspan.events
WHERE events.class = 'export.finding' AND events.payload = ''
ORDER BY control_leaf
LIMIT 1 BY log_id, leaf_index, finding;

-- What a SOC analyst looks at first, with what was found wrong with an export request.
CREATE OR REPLACE VIEW auditspan.flagged AS
SELECT
    record_id, class, event_time, arrival_time, actor_id, actor_type, action, outcome, target_id, target_type,
    destination_country, eccn, determination, rule_ids, citations, why, faults, emitter, client_address, service_name,
    trace_id, span_id, log_id, leaf_index
FROM auditspan.events
WHERE flagged
UNION ALL
SELECT
    events.record_id AS record_id, events.class AS class, event_time, arrival_time, actor_id, actor_type, action, outcome,
    target_id, target_type, destination_country, eccn, determination, rule_ids,
    if(events.citations = '', found.citation, concat(events.citations, char(59, 32), found.citation)) AS citations,
    if(events.why = '', found.why, concat(events.why, ' ', found.why)) AS why,
    faults, emitter, client_address, service_name, trace_id, span_id, events.log_id AS log_id,
    events.leaf_index AS leaf_index
FROM auditspan.events
INNER JOIN
(
    SELECT log_id, leaf_index, any(citation) AS citation, arrayStringConcat(groupArray(why), ' ') AS why
    FROM auditspan.findings
    GROUP BY log_id, leaf_index
) AS found ON found.log_id = events.log_id AND found.leaf_index = events.leaf_index
WHERE NOT flagged AND (events.log_id, events.leaf_index) IN (SELECT log_id, leaf_index FROM auditspan.findings);
