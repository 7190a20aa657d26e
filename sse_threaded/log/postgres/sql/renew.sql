-- Called behind the lock, when the server was started again, or when the log is another one than before. Then a
-- new epoch begins after the newest number that exists: "found_last". Its batch has seen "found_seen".
-- "is_shorter" says that a number is missing that was given. It returns where to go on: the epoch, the newest
-- number, and the transactions that were over then.
CREATE OR REPLACE FUNCTION {renew}(
    found_last bigint, found_seen pg_snapshot, is_shorter boolean,
    OUT next_epoch text, OUT next_last bigint, OUT next_seen pg_snapshot
) LANGUAGE plpgsql VOLATILE
SET enable_seqscan = on SET enable_bitmapscan = on SET enable_hashjoin = on SET enable_mergejoin = on
AS $body$
DECLARE
    known {state}%ROWTYPE;
    here text := {place}();
    server text := {system}();
    own xid8 := pg_current_xact_id_if_assigned();
    is_whole boolean;
    added bigint;
BEGIN
    SELECT s.* INTO STRICT known FROM {state} s;
    -- Whether these are the tables of the same server, perhaps of a replica that took over, and nothing is missing.
    -- The server cannot have seen a transaction that is still to come. The timeline ends the place.
    is_whole := known.system IS NOT DISTINCT FROM server AND left(known.place, -9) = left(here, -9)
        AND found_last >= known.high AND NOT is_shorter
        AND coalesce(pg_snapshot_xmax(found_seen) <= pg_snapshot_xmax(pg_current_snapshot()), false);
    next_epoch := known.epoch;
    next_last := found_last;
    next_seen := found_seen;
    IF is_whole AND known.place = here THEN
        UPDATE {state} SET started = pg_postmaster_start_time();
        RETURN;
    END IF;
    -- No trimming at the same time, as it changes the same rows.
    PERFORM pg_advisory_xact_lock({trimmer_lock}, '{numbers}'::regclass::oid::integer);
    UPDATE {epochs} SET upto = found_last WHERE upto > found_last;
    INSERT INTO {epochs} (epoch, upto) VALUES (known.epoch, found_last);
    DELETE FROM {epochs} WHERE nr <= (SELECT max(nr) - {most_epochs} FROM {epochs});
    LOOP
        next_epoch := {letters}();
        EXIT WHEN NOT EXISTS (SELECT FROM {epochs} e WHERE e.epoch = next_epoch);
    END LOOP;
    IF is_whole THEN
        UPDATE {state} SET epoch = next_epoch, since = next_last, seen = next_seen, high = next_last,
            place = here, started = pg_postmaster_start_time();
        PERFORM pg_notify('{bell}', next_epoch || '-' || next_last);
        RETURN;
    END IF;
    UPDATE {trimmed} SET upto = found_last WHERE upto > found_last;
    -- All events without a number get one. In a restored log their transactions are those of another server. If
    -- such a transaction looks as if it were still to come, its events get the oldest transaction instead.
    WITH now AS MATERIALIZED (
        SELECT {running}(pg_current_snapshot(), own) AS seen
    ), looked_at AS MATERIALIZED (
        SELECT e.transaction, e.place, e.channel, e.is_numbered, n.sequence IS NULL AS is_pending,
            NOT pg_visible_in_snapshot(e.transaction, now.seen) AS is_foreign
        FROM now CROSS JOIN {events} e
            LEFT JOIN {numbers} n ON n.transaction = e.transaction AND n.place = e.place
        WHERE e.transaction IS DISTINCT FROM own
    ), lost AS (
        -- They had numbers, which are gone.
        DELETE FROM {events} e USING looked_at o
        WHERE e.transaction = o.transaction AND e.place = o.place AND o.is_pending AND o.is_numbered
    ), moved AS (
        UPDATE {events} e SET transaction = '0' FROM looked_at o
        WHERE e.transaction = o.transaction AND e.place = o.place
            AND o.is_foreign AND NOT (o.is_pending AND o.is_numbered)
    ), moved_numbers AS (
        UPDATE {numbers} n SET transaction = '0' FROM now
        WHERE NOT pg_visible_in_snapshot(n.transaction, now.seen) AND n.transaction IS DISTINCT FROM own
    ), in_order AS (
        SELECT o.*, row_number() OVER (ORDER BY o.place) AS nr,
            row_number() OVER (PARTITION BY o.channel ORDER BY o.place) AS nth
        FROM looked_at o WHERE o.is_pending AND NOT o.is_numbered
    ), newest AS (
        SELECT n.channel, max(n.nth) AS nth FROM {numbers} n GROUP BY n.channel
    ), given_numbers AS (
        INSERT INTO {numbers} (sequence, transaction, place, channel, nth)
        SELECT found_last + o.nr, CASE WHEN o.is_foreign THEN '0' ELSE o.transaction END, o.place, o.channel,
            coalesce(newest.nth, 0) + o.nth
        FROM in_order o LEFT JOIN newest USING (channel)
        RETURNING 1
    )
    SELECT now.seen, (SELECT count(*) FROM given_numbers) INTO next_seen, added FROM now;
    next_last := found_last + added;
    UPDATE {state} SET epoch = next_epoch, since = next_last, seen = next_seen, high = next_last,
        place = here, system = server, started = pg_postmaster_start_time();
    PERFORM pg_notify('{bell}', next_epoch || '-' || next_last);
END
$body$;
