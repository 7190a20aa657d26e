-- Numbers all events that were committed. Then it appends further events, with their numbers, in this transaction.
-- Other callers wait for the end of the transaction. It returns the epoch, the newest number, and how many events
-- got one that had none. The caller says which epoch it knows, and the newest number that it has seen committed
-- there. If very many events wait, it numbers some of them, appends nothing, and "is_behind" is true. Call it again.
CREATE OR REPLACE FUNCTION {append}(
    channels text[], kinds text[], bodies text[], known_epoch text, known_last bigint,
    OUT epoch text, OUT last bigint, OUT waited integer, OUT is_behind boolean
) LANGUAGE plpgsql VOLATILE
{one_plan}
SET lock_timeout = '{lock_timeout}ms'
AS $body$
DECLARE
    known {state}%ROWTYPE;
    own xid8 := pg_current_xact_id_if_assigned();
    -- The transactions that were over when the last batch was made, and those that are over now.
    before pg_snapshot;
    now pg_snapshot;
    -- Only transactions before this one are in the batch; NULL: all.
    bound xid8;
    -- The events of this batch.
    transactions xid8[];
    places bigint[];
    names text[];
    -- Whether no event waits for its number.
    is_quiet boolean;
    nothing text;
BEGIN
    -- Each statement below must see everything that was committed before it.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE 'the log needs the isolation level "read committed"' USING ERRCODE = 'SSE01';
    END IF;
    -- An event that a client has seen must survive a crash.
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'local', true);
    END IF;
    -- A lock for which sessions queue goes to a session that sleeps. On a busy machine all of them then wait until that
    -- one runs. So a session first looks now and then, and takes the lock when it runs itself. (PL/pgSQL computes an
    -- assigned expression itself, which costs less than PERFORM.)
    FOR i IN 1..{looks} LOOP
        EXIT WHEN pg_try_advisory_xact_lock({lock}, '{numbers}'::regclass::oid::integer);
        nothing := pg_sleep(0.001);
        IF i = {looks} THEN
            nothing := pg_advisory_xact_lock({lock}, '{numbers}'::regclass::oid::integer);
        END IF;
    END LOOP;
    SELECT
        s.epoch, s.since, s.seen, s.high, s.place, s.started, n.sequence, n.seen, pg_current_snapshot(),
        -- No event of a transaction that was not over when the last batch was made; see below.
        NOT EXISTS (
            SELECT FROM {events} e WHERE e.transaction >= pg_snapshot_xmax(n.seen) AND NOT e.is_numbered
        ) AND (
            pg_snapshot_xmin(n.seen) = pg_snapshot_xmax(n.seen) OR NOT EXISTS (
                SELECT FROM {events} e
                WHERE e.transaction = ANY (ARRAY(
                        SELECT running FROM pg_snapshot_xip(n.seen) running
                        WHERE pg_visible_in_snapshot(running, pg_current_snapshot())
                    ))
                    AND NOT e.is_numbered
            )
        )
    INTO known.epoch, known.since, known.seen, known.high, known.place, known.started, last, before, now, is_quiet
    FROM {state} s LEFT JOIN LATERAL (
        SELECT n.sequence, n.seen FROM {numbers} n ORDER BY n.sequence DESC LIMIT 1
    ) n ON true;
    IF NOT FOUND THEN
        RAISE 'the table {state} is empty' USING ERRCODE = 'SSE02';
    END IF;
    IF last IS NULL OR last <= known.since THEN
        before := known.seen;
        is_quiet := false;
    END IF;
    last := coalesce(last, 0);
    IF known.started <> pg_postmaster_start_time() OR known.place <> {place}() OR before IS NULL
        OR last < known.high OR (known.epoch = known_epoch AND last < known_last)
    THEN
        SELECT r.next_epoch, r.next_last, r.next_seen INTO known.epoch, last, before
        FROM {renew}(last, before, coalesce(known.epoch = known_epoch AND last < known_last, false)) r;
        is_quiet := false;
    END IF;
    epoch := known.epoch;
    waited := 0;
    is_behind := false;

    -- Most often there is one event, and no other one waits: two simple statements.
    IF is_quiet AND own IS NULL AND cardinality(channels) = 1 THEN
        last := last + 1;
        WITH appended AS (
            INSERT INTO {events} AS e (is_numbered, channel, event, data)
            VALUES (true, channels[1], kinds[1], bodies[1])
            RETURNING e.transaction, e.place
        )
        INSERT INTO {numbers} (sequence, transaction, place, channel, nth, seen)
        SELECT
            last, a.transaction, a.place, channels[1],
            coalesce((
                SELECT n.nth FROM {numbers} n WHERE n.channel = channels[1] ORDER BY n.sequence DESC LIMIT 1
            ), 0) + 1,
            now
        FROM appended a;
        nothing := pg_notify('{bell}', epoch || '-' || last);
        RETURN;
    END IF;

    -- Transactions that were not over when the last batch was made. Their events are visible if they are over now,
    -- and were not rolled back. The snapshot must be the one in which this statement looks.
    LOOP
        WITH this AS MATERIALIZED (
            SELECT pg_current_snapshot() AS seen
        ), pending AS (
            (
                SELECT e.transaction, e.place, e.channel FROM {events} e
                WHERE e.transaction >= pg_snapshot_xmax(before) AND (bound IS NULL OR e.transaction < bound)
                    AND NOT e.is_numbered AND e.transaction IS DISTINCT FROM own
                ORDER BY e.transaction LIMIT CASE WHEN bound IS NULL THEN {batch} END
            )
            UNION ALL
            SELECT e.transaction, e.place, e.channel FROM {events} e
            WHERE e.transaction = ANY (ARRAY(
                    SELECT running FROM this, pg_snapshot_xip(before) running
                    WHERE pg_visible_in_snapshot(running, this.seen)
                ))
                AND NOT e.is_numbered AND e.transaction IS DISTINCT FROM own
        )
        SELECT
            (SELECT this.seen FROM this), array_agg(p.transaction ORDER BY p.place),
            array_agg(p.place ORDER BY p.place), array_agg(p.channel ORDER BY p.place)
        INTO now, transactions, places, names FROM pending p;
        EXIT WHEN bound IS NOT NULL OR coalesce(cardinality(places), 0) < {batch};
        -- Many events have waited, for example while no process gave numbers. This batch takes whole transactions,
        -- and the next one goes on from there.
        bound := {bound}(transactions, pg_snapshot_xmax(before));
        EXIT WHEN bound IS NULL;
    END LOOP;
    IF bound IS NOT NULL THEN
        now := {before}(now, bound);
        is_behind := true;
        PERFORM pg_notify('{bell}', 'pending');
    END IF;
    IF own IS NOT NULL THEN
        now := {running}(now, own);
    END IF;

    waited := coalesce(cardinality(places), 0);
    IF cardinality(channels) > 0 AND NOT is_behind THEN
        WITH appended AS (
            INSERT INTO {events} AS e (is_numbered, channel, event, data)
            SELECT true, given.channel, given.kind, given.body
            FROM unnest(channels, kinds, bodies) WITH ORDINALITY AS given (channel, kind, body, nr)
            ORDER BY given.nr
            RETURNING e.transaction, e.place, e.channel
        )
        SELECT
            transactions || array_agg(a.transaction ORDER BY a.place),
            places || array_agg(a.place ORDER BY a.place),
            names || array_agg(a.channel ORDER BY a.place)
        INTO transactions, places, names FROM appended a;
    END IF;
    IF places IS NULL THEN
        RETURN;
    END IF;

    -- One look at the index for each channel.
    WITH counted AS (
        SELECT o.*, row_number() OVER (PARTITION BY o.channel ORDER BY o.nr) AS nth
        FROM unnest(transactions, places, names) WITH ORDINALITY AS o (transaction, place, channel, nr)
    ), compared AS (
        SELECT c.*, CASE WHEN c.nth = 1 THEN (
                SELECT n.nth FROM {numbers} n WHERE n.channel = c.channel ORDER BY n.sequence DESC LIMIT 1
            ) END AS earlier
        FROM counted c
    )
    INSERT INTO {numbers} (sequence, transaction, place, channel, nth, seen)
    SELECT last + c.nr, c.transaction, c.place, c.channel,
        coalesce(max(c.earlier) OVER (PARTITION BY c.channel), 0) + c.nth,
        CASE WHEN c.nr = cardinality(places) THEN now END
    FROM compared c;
    last := last + cardinality(places);
    PERFORM pg_notify('{bell}', epoch || '-' || last);
END
$body$;
