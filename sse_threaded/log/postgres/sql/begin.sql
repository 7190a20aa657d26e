-- Makes the log's only row, if it is not there.
INSERT INTO {state} (schema, epoch, since, seen, high, place, system, started)
SELECT
    {version}, {letters}(), coalesce(newest.sequence, 0),
    coalesce(newest.seen, {running}(pg_current_snapshot(), pg_current_xact_id_if_assigned())),
    coalesce(newest.sequence, 0), {place}(), {system}(), pg_postmaster_start_time()
FROM (SELECT) one LEFT JOIN (
    SELECT n.sequence, n.seen FROM {numbers} n ORDER BY n.sequence DESC LIMIT 1
) newest ON true
ON CONFLICT DO NOTHING
