-- Cases: what an unflagged `review` waits for, one for each subject and missing fact (docs/decisions/0010-cases.md).
-- Like `why`, `missing_facts` is rendered by the processor: the most basic fact first.
ALTER TABLE auditspan.events ADD COLUMN IF NOT EXISTS missing_facts Array(LowCardinality(String)) AFTER why;

-- The engine works out the two that follow from columns that are sealed or rendered. Empty: the event is in no case.
-- The facts document is canonical JSON, so a text search finds its members, once for all events that share it; a parser
-- would run for each event.
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

-- Whoever the question is about: the actor, an end user that is another party, or the emitter of a faulty record.
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

-- Each part of the table carries its own counts, written and merged with it: there is no second table that a crash could
-- leave behind, and a page of cases reads counts instead of events.
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

-- Every pair of subject and question, and the case that it is in. Of a UTC day at most 50 cases are new: 20 for actors
-- that the party registry does not know, and of these at most 5 of one emitter, 20 for everything else, and 10 that take
-- together what is more. Who came first has a case of its own, so a later event changes nothing of an earlier day.
CREATE VIEW IF NOT EXISTS auditspan.case_members AS
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

-- One row for each case. `members` are the pairs in it, `grouped` those that have no case of their own.
CREATE VIEW IF NOT EXISTS auditspan.cases AS
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
