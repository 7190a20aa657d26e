-- The snapshot with the transaction "own" among those that are not over. PostgreSQL leaves the caller's own
-- transaction out of its snapshot, but it may still add events.
CREATE OR REPLACE FUNCTION {running}(seen pg_snapshot, own xid8) RETURNS pg_snapshot
LANGUAGE sql IMMUTABLE AS $body$
    SELECT CASE WHEN own IS NULL OR own >= pg_snapshot_xmax(seen) THEN seen ELSE (
        SELECT format(
            '%s:%s:%s', pg_snapshot_xmin(seen), pg_snapshot_xmax(seen), string_agg(x::text, ',' ORDER BY x)
        )
        FROM (SELECT pg_snapshot_xip(seen) UNION SELECT own) others (x)
    )::pg_snapshot END
$body$;
