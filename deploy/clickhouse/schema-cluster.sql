-- The schema of AuditSpan on replicas of one shard, for the role auditspan_owner (roles.sql).
-- Generated from auditspan/store/migrations by `make docs`; do not edit.
-- Every server needs the macros `cluster` and `replica`. Keeper makes an insert and its deduplication token
-- one step. What keeps the read-back honest (insert_quorum, select_sequential_consistency) are settings of
-- queries: the client sends them, and the profile in roles.sql has them too.

CREATE DATABASE IF NOT EXISTS auditspan ON CLUSTER '{cluster}';

CREATE TABLE IF NOT EXISTS auditspan.migrations ON CLUSTER '{cluster}' (version UInt32, name String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3)) ENGINE = ReplicatedMergeTree('/clickhouse/tables/{database}/{table}', '{replica}') ORDER BY version SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS auditspan.events ON CLUSTER '{cluster}'
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
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{database}/{table}', '{replica}')
PARTITION BY sealing_month
ORDER BY (log_id, leaf_index)
SETTINGS

    replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,


    min_bytes_for_wide_part = 268435456,



    index_granularity = 2048,
    merge_selector_base = 24,
    max_parts_to_merge_at_once = 32,
    merge_max_block_size = 1024,
    merge_max_block_size_bytes = 1048576,

    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE VIEW IF NOT EXISTS auditspan.flagged ON CLUSTER '{cluster}' AS
SELECT
    record_id, class, event_time, arrival_time, actor_id, actor_type, action, outcome, target_id, target_type,
    destination_country, eccn, determination, rule_ids, citations, why, faults, emitter, client_address, service_name,
    trace_id, span_id, log_id, leaf_index
FROM auditspan.events
WHERE flagged;

INSERT INTO auditspan.migrations (version, name) SELECT 1, '0001_events' WHERE 1 NOT IN (SELECT version FROM auditspan.migrations);

CREATE TABLE IF NOT EXISTS auditspan.tree_nodes ON CLUSTER '{cluster}'
(
    log_id LowCardinality(String),
    level UInt8,
    node_index UInt64 CODEC(DoubleDelta, LZ4),
    hash FixedString(32) CODEC(NONE)
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{database}/{table}', '{replica}')
ORDER BY (log_id, level, node_index);

CREATE TABLE IF NOT EXISTS auditspan.checkpoints ON CLUSTER '{cluster}'
(
    log_id LowCardinality(String),
    size UInt64,
    root String,
    note String,
    signed_at DateTime64(9, 'UTC')
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{database}/{table}', '{replica}')
ORDER BY (log_id, size, note)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

INSERT INTO auditspan.migrations (version, name) SELECT 2, '0002_tree' WHERE 2 NOT IN (SELECT version FROM auditspan.migrations);

CREATE TABLE IF NOT EXISTS auditspan.reference_artifacts ON CLUSTER '{cluster}'
(
    sha256 String,
    content String CODEC(ZSTD(1))
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{database}/{table}', '{replica}')
ORDER BY sha256
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

INSERT INTO auditspan.migrations (version, name) SELECT 3, '0003_reference' WHERE 3 NOT IN (SELECT version FROM auditspan.migrations);

CREATE TABLE IF NOT EXISTS auditspan.suppressed ON CLUSTER '{cluster}'
(
    log_id LowCardinality(String),
    first_leaf UInt64,
    emitter LowCardinality(String),
    stream LowCardinality(String),
    records UInt64
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{database}/{table}', '{replica}')
ORDER BY (log_id, emitter, stream, first_leaf);

CREATE VIEW IF NOT EXISTS auditspan.streams ON CLUSTER '{cluster}' AS
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

ALTER TABLE auditspan.events ADD COLUMN IF NOT EXISTS missing_facts Array(LowCardinality(String)) AFTER why;

ALTER TABLE auditspan.events ADD COLUMN IF NOT EXISTS case_question LowCardinality(String) MATERIALIZED multiIf(
    determination != 'review' OR flagged, '',
    notEmpty(missing_facts), multiIf(
        missing_facts[1] IN ('actor_party', 'end_user_party'), missing_facts[1],
        endsWith(missing_facts[1], '_groups'), 'country_groups',
        replaceRegexpOne(missing_facts[1], '^(actor|end_user)_', '')),
    extract(facts, '"governs":true,"id":"([^"]+)","outcome":"review"') != '',
        concat('rule:', extract(facts, '"governs":true,"id":"([^"]+)","outcome":"review"')),
    arrayExists(code -> code != 'time.end_before_start', faults),
        concat('fault:', arrayFirst(code -> code != 'time.end_before_start', faults)),
    'review'
) AFTER missing_facts;

ALTER TABLE auditspan.events ADD COLUMN IF NOT EXISTS case_subject LowCardinality(String) MATERIALIZED multiIf(
    case_question = '', '',
    startsWith(case_question, 'fault:'), concat('emitter:', emitter),
    startsWith(missing_facts[1], 'end_user_') AND missing_facts[1] != 'end_user_party',
        concat('party:', simpleJSONExtractString(facts, 'end_user_party')),
    simpleJSONExtractString(facts, 'actor_party') != '', concat('party:', simpleJSONExtractString(facts, 'actor_party')),
    length(actor_id) > 256, concat('actor:sha256:', lower(hex(SHA256(actor_id)))),
    actor_id != '', concat('actor:', actor_id),
    concat('emitter:', emitter)
) AFTER case_question;

ALTER TABLE auditspan.events ADD PROJECTION IF NOT EXISTS case_counts
(
    SELECT
        case_subject, case_question, emitter, count(),
        min((toUnixTimestamp64Nano(ifNull(arrival_time, toDateTime64(0, 9, 'UTC'))), toString(log_id), leaf_index)),
        max(arrival_time), max(reference_epoch), groupUniqArrayArray(missing_facts), groupUniqArrayArray(faults),
        groupUniqArrayArray(rule_ids), groupUniqArray(class)
    GROUP BY case_subject, case_question, emitter
);

ALTER TABLE auditspan.events MATERIALIZE PROJECTION case_counts;

CREATE VIEW IF NOT EXISTS auditspan.case_members ON CLUSTER '{cluster}' AS
WITH
    counted AS
    (
        SELECT
            case_subject, case_question, emitter, count() AS events_,
            min((toUnixTimestamp64Nano(ifNull(arrival_time, toDateTime64(0, 9, 'UTC'))), toString(log_id), leaf_index))
                AS first_,
            max(arrival_time) AS last_, max(reference_epoch) AS epoch_, groupUniqArrayArray(missing_facts) AS missing_,
            groupUniqArrayArray(faults) AS faults_, groupUniqArrayArray(rule_ids) AS rules_,
            groupUniqArray(class) AS classes_
        FROM auditspan.events
        WHERE case_subject != ''
        GROUP BY case_subject, case_question, emitter
    ),
    pairs AS
    (
        SELECT
            toString(case_subject) AS subject, toString(case_question) AS question,
            startsWith(subject, 'actor:') AS stranger, toString(argMin(emitter, first_)) AS home,
            sum(events_) AS events, min(first_) AS first, max(last_) AS last_seen, max(epoch_) AS last_epoch,
            arraySort(groupUniqArrayArray(missing_)) AS missing_facts, arraySort(groupUniqArrayArray(faults_)) AS faults,
            arraySort(groupUniqArrayArray(rules_)) AS rule_ids, arraySort(groupUniqArrayArray(classes_)) AS classes
        FROM counted
        GROUP BY subject, question
    ),
    at_home AS
    (
        SELECT *, intDiv(first.1, 86400000000000) AS day,
            NOT stranger OR row_number() OVER (PARTITION BY stranger, day, home ORDER BY first) <= 5 AS early
        FROM pairs
    ),
    of_the_day AS
    (
        SELECT *, early AND row_number() OVER (PARTITION BY stranger, early, day ORDER BY first) <= 20 AS own,
            multiIf(own, subject, stranger, concat('emitter:', home), 'everyone') AS together
        FROM at_home
    ),
    collected AS
    (
        SELECT *, min(first) OVER (PARTITION BY own, together, question) AS opened FROM of_the_day
    ),
    numbered AS
    (
        SELECT *,
            own OR dense_rank() OVER (PARTITION BY own, intDiv(opened.1, 86400000000000) ORDER BY opened) <= 9 AS kept
        FROM collected
    )
SELECT
    substring(lower(hex(SHA256(concat(case_question, ' ', case_subject)))), 1, 16) AS case_id,
    if(kept, together, 'everyone') AS case_subject,
    if(kept, question, 'more') AS case_question,
    subject, question, own, home, events,
    fromUnixTimestamp64Nano(first.1, 'UTC') AS first_seen, last_seen, last_epoch,
    first.2 AS first_log_id, first.3 AS first_leaf,
    missing_facts, faults, rule_ids, classes
FROM numbered;

CREATE VIEW IF NOT EXISTS auditspan.cases ON CLUSTER '{cluster}' AS
SELECT
    case_id,
    any(case_members.case_subject) AS subject,
    any(case_members.case_question) AS question,
    count() AS members,
    countIf(NOT own) AS grouped,
    sum(case_members.events) AS events,
    min(case_members.first_seen) AS first_seen,
    max(case_members.last_seen) AS last_seen,
    max(case_members.last_epoch) AS last_epoch,
    arraySort(groupUniqArrayArray(case_members.missing_facts)) AS missing_facts,
    arraySort(groupUniqArrayArray(case_members.faults)) AS faults,
    arraySort(groupUniqArrayArray(case_members.rule_ids)) AS rule_ids,
    arraySort(groupUniqArrayArray(case_members.classes)) AS classes
FROM auditspan.case_members
GROUP BY case_id;

INSERT INTO auditspan.migrations (version, name) SELECT 5, '0005_cases' WHERE 5 NOT IN (SELECT version FROM auditspan.migrations);

CREATE VIEW IF NOT EXISTS auditspan.license_allocations ON CLUSTER '{cluster}' AS
WITH
    rounds AS
    (
        SELECT
            log_id AS control_log_id, leaf_index AS control_leaf_index, arrival_time AS allocated_at,
            JSONExtractInt(header, 'body', 'body', 'number') AS round,
            JSONExtract(header, 'body', 'body', 'allocations',
                'Array(Tuple(license Nullable(String), sequence UInt64, log_id String, leaf_index UInt64, record_id String,
                outcome String, quantity Nullable(Int64), remaining Nullable(Int64), reference_epoch Int64, why String))')
                AS allocations
        FROM auditspan.events
        WHERE class = 'license.allocation' AND payload = ''
        ORDER BY leaf_index
        LIMIT 1 BY log_id, round
    )
SELECT
    ifNull(one.license, '') AS license, one.sequence AS sequence, one.outcome AS outcome, one.quantity AS quantity,
    one.remaining AS remaining, one.why AS why, one.log_id AS log_id, one.leaf_index AS leaf_index,
    one.record_id AS record_id, one.reference_epoch AS reference_epoch,
    round, control_log_id, control_leaf_index, allocated_at
FROM rounds
ARRAY JOIN allocations AS one;

CREATE VIEW IF NOT EXISTS auditspan.current ON CLUSTER '{cluster}' AS
SELECT
    events.record_id AS record_id, events.class AS class, events.event_time AS event_time,
    events.arrival_time AS arrival_time, events.actor_id AS actor_id, events.action AS action,
    events.outcome AS outcome, events.target_id AS target_id, events.destination_country AS destination_country,
    events.eccn AS eccn, events.determination AS determination,
    if(allocated.outcome = 'covered' AND events.determination = 'license_required', 'licensed',
        toString(events.determination)) AS current,
    events.flagged AS flagged, events.rule_ids AS rule_ids, events.citations AS citations, events.why AS why,
    allocated.license AS license, allocated.sequence AS license_sequence, allocated.outcome AS license_outcome,
    allocated.why AS license_why, allocated.control_log_id AS allocation_log_id,
    if(allocated.outcome = '', NULL, allocated.control_leaf_index) AS allocation_leaf_index,
    events.emitter AS emitter, events.log_id AS log_id, events.leaf_index AS leaf_index
FROM auditspan.events AS events
LEFT JOIN auditspan.license_allocations AS allocated
    ON events.log_id = allocated.log_id AND events.leaf_index = allocated.leaf_index
WHERE events.determination != '';

INSERT INTO auditspan.migrations (version, name) SELECT 6, '0006_licenses' WHERE 6 NOT IN (SELECT version FROM auditspan.migrations);

CREATE TABLE IF NOT EXISTS auditspan.request_records ON CLUSTER '{cluster}'
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
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{database}/{table}', '{replica}')
ORDER BY (log_id, leaf_index)
SETTINGS index_granularity = 256, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE VIEW IF NOT EXISTS auditspan.findings ON CLUSTER '{cluster}' AS
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

CREATE OR REPLACE VIEW auditspan.flagged ON CLUSTER '{cluster}' AS
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

INSERT INTO auditspan.migrations (version, name) SELECT 7, '0007_requests' WHERE 7 NOT IN (SELECT version FROM auditspan.migrations);

CREATE VIEW IF NOT EXISTS auditspan.rescreened ON CLUSTER '{cluster}' AS
SELECT
    substring(lower(hex(SHA256(concat('listed ', list, ' ', entry_id, ' ', subject, ' ', whose, owner)))), 1, 16) AS case_id,
    subject, any(one_party) AS party, argMax(one_name, leaf) AS name, whose, list, entry_id,
    argMax(JSONExtractString(said, 'country'), leaf) AS country,
    argMax(JSONExtractString(said, 'entry', 'listed_as'), leaf) AS listed_as,
    argMax(JSONExtractString(said, 'entry', 'matched'), leaf) AS matched,
    argMax(JSONExtractString(said, 'entry', 'role'), leaf) AS matched_role,
    argMax(toFloat64OrZero(JSONExtractString(said, 'entry', 'score')), leaf) AS score,
    argMax(JSONExtractString(said, 'entry', 'parts'), leaf) AS parts,
    argMax(JSONExtractBool(said, 'counts'), leaf) AS counts,
    arraySort(groupUniqArrayArray(JSONExtract(said, 'roles', 'Array(String)'))) AS roles,
    max(JSONExtractUInt(said, 'events')) AS events,
    max(done) AS transfers,
    transfers > 0 AS flagged,
    fromUnixTimestamp64Nano(min(first), 'UTC') AS first_seen,
    argMin(JSONExtractString(said, 'first', 'record_id'), first) AS first_record_id,
    fromUnixTimestamp64Nano(max(last), 'UTC') AS last_seen,
    argMax(JSONExtractString(said, 'last', 'record_id'), last) AS last_record_id,
    argMax(JSONExtract(said, 'stop', 'Array(String)'), done) AS stop,
    argMax(JSONExtractString(said, 'list', 'version'), leaf) AS list_version,
    min(arrival) AS found_at,
    max(arrival) AS said_at,
    any(log) AS control_log_id,
    max(leaf) AS control_leaf
FROM
(
    SELECT
        JSONExtractRaw(header, 'body', 'body') AS said,
        JSONExtractString(said, 'party') AS one_party,
        JSONExtractString(said, 'name') AS one_name,
        if(one_party = '', concat('name:', one_name), concat('party:', one_party)) AS subject,
        JSONExtractString(said, 'whose') AS whose,
        if(whose = 'owner', one_name, '') AS owner,
        JSONExtractString(said, 'entry', 'list') AS list,
        JSONExtractString(said, 'entry', 'id') AS entry_id,
        JSONExtractUInt(said, 'transfers') AS done,
        toInt64OrZero(JSONExtractString(said, 'first', 'arrival_time')) AS first,
        toInt64OrZero(JSONExtractString(said, 'last', 'arrival_time')) AS last,
        log_id AS log, leaf_index AS leaf, arrival_time AS arrival
    FROM auditspan.events
    WHERE class = 'screening.rescreened' AND payload = ''
)
GROUP BY subject, whose, owner, list, entry_id;

INSERT INTO auditspan.migrations (version, name) SELECT 8, '0008_rescreened' WHERE 8 NOT IN (SELECT version FROM auditspan.migrations);

CREATE TABLE IF NOT EXISTS auditspan.anchors ON CLUSTER '{cluster}'
(
    log_id LowCardinality(String),
    size UInt64,
    kind LowCardinality(String),
    name LowCardinality(String),
    content String CODEC(ZSTD(1)),
    anchored_at DateTime64(9, 'UTC')
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{database}/{table}', '{replica}')
ORDER BY (log_id, size, kind, name)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

INSERT INTO auditspan.migrations (version, name) SELECT 9, '0009_anchors' WHERE 9 NOT IN (SELECT version FROM auditspan.migrations);
