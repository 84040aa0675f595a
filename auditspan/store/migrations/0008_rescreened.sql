-- Who of the past is like an entry of a list that came later, sealed in the control log as screening.rescreened: one row
-- for each party, owner of a party, or name that no party has, and entry. Each is a case, flagged where transfers were completed
-- (docs/screening.md). Of several leaves on one the last says what it is like; they may count different times.
CREATE VIEW IF NOT EXISTS auditspan.rescreened AS
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
