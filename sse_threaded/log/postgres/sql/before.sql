-- The snapshot as if no transaction from "bound" on had begun.
CREATE OR REPLACE FUNCTION {before}(seen pg_snapshot, bound xid8) RETURNS pg_snapshot
LANGUAGE sql IMMUTABLE AS $body$
    SELECT CASE WHEN bound >= pg_snapshot_xmax(seen) THEN seen ELSE format(
        '%s:%s:%s', CASE WHEN pg_snapshot_xmin(seen) < bound THEN pg_snapshot_xmin(seen) ELSE bound END, bound,
        (SELECT string_agg(x::text, ',' ORDER BY x) FROM pg_snapshot_xip(seen) x WHERE x < bound)
    )::pg_snapshot END
$body$;
