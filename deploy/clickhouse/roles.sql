-- Users and rights of AuditSpan on a ClickHouse server, applied once by an administrator before schema.sql or
-- schema-cluster.sql. On a cluster, add ON CLUSTER '{cluster}' to each statement, or keep users in replicated storage.
-- No password stands here: put the SHA-256, in hexadecimal, of a long random one in its place. The server refuses the
-- placeholder.

CREATE ROLE IF NOT EXISTS auditspan_owner;
CREATE ROLE IF NOT EXISTS auditspan_writer;
CREATE ROLE IF NOT EXISTS auditspan_reader;

-- The owner applies the schema, and is used for nothing else. Expiring what a retention rule lets go is its work too.
-- A view holds no data, so that replacing one loses nothing.
GRANT CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP VIEW, ALTER, SELECT, INSERT ON auditspan.* TO auditspan_owner;

-- The writer seals. It can add to these tables, and change or remove nothing. A table function needs the right to
-- create temporary tables: its inserts read their rows by input().
GRANT SELECT ON auditspan.* TO auditspan_writer;
GRANT INSERT ON auditspan.events TO auditspan_writer;
GRANT INSERT ON auditspan.tree_nodes TO auditspan_writer;
GRANT INSERT ON auditspan.reference_artifacts TO auditspan_writer;
GRANT INSERT ON auditspan.request_records TO auditspan_writer;
GRANT INSERT ON auditspan.suppressed TO auditspan_writer;
GRANT INSERT ON auditspan.checkpoints TO auditspan_writer;
GRANT INSERT ON auditspan.anchors TO auditspan_writer;
GRANT CREATE TEMPORARY TABLE ON *.* TO auditspan_writer;

GRANT SELECT ON auditspan.* TO auditspan_reader;

-- As soon as a table has one row policy, a user without one sees nothing of it. The writer must see every row: what it
-- does not see it would take for not sealed.
CREATE ROW POLICY IF NOT EXISTS auditspan_sees_all ON auditspan.events
    FOR SELECT USING 1 TO auditspan_owner, auditspan_writer;
-- All events for readers. For an analyst of one region make another role with a policy of its own, such as
-- USING destination_country IN ('DE', 'FR'). Such a role needs a policy on auditspan.request_records too, which has what
-- the join of export requests reads of payloads: USING destination IN ('DE', 'FR').
CREATE ROW POLICY IF NOT EXISTS auditspan_reads ON auditspan.events
    FOR SELECT USING 1 TO auditspan_reader;

-- An insert is durable and whole when it is acknowledged, and a read sees every acknowledged insert, on any replica.
CREATE SETTINGS PROFILE IF NOT EXISTS auditspan_writing SETTINGS
    async_insert = 0,
    insert_deduplicate = 1,
    insert_quorum = 'auto',
    insert_quorum_parallel = 0,
    select_sequential_consistency = 1
    TO auditspan_writer;

CREATE SETTINGS PROFILE IF NOT EXISTS auditspan_reading SETTINGS
    readonly = 1,
    max_execution_time = 30,
    max_memory_usage = 536870912,
    max_result_bytes = 268435456
    TO auditspan_reader;

CREATE USER IF NOT EXISTS writer IDENTIFIED WITH sha256_hash BY 'SHA-256-OF-THE-WRITERS-PASSWORD'
    DEFAULT ROLE auditspan_writer;
CREATE USER IF NOT EXISTS reader IDENTIFIED WITH sha256_hash BY 'SHA-256-OF-THE-READERS-PASSWORD'
    DEFAULT ROLE auditspan_reader;
GRANT auditspan_writer TO writer;
GRANT auditspan_reader TO reader;
