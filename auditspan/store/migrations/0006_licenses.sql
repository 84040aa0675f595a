-- What events take of export licenses (docs/decisions/0012-license-allocation.md). Of several rounds with one number the
-- first in the control log counts. An emitter may send events of a class of this name: those have a payload.
CREATE VIEW IF NOT EXISTS auditspan.license_allocations AS
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

-- What holds of each judged event now: `determination` is sealed with it, and `current` is `licensed` where a license
-- covers an event that needs one. Whether it is flagged stays as it was sealed.
CREATE VIEW IF NOT EXISTS auditspan.current AS
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
