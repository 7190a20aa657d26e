-- Trims some of the channels after the channel "after", in the order of their names. It looks at "most_channels"
-- and deletes about "most_events". A channel may have up to "slack" events more, or older ones, so that it is not
-- trimmed in each round: until its next cleaning PostgreSQL passes over deleted rows and old versions. It returns
-- the channel after which to go on, how many events were deleted, and whether there are no more channels. If
-- another process is trimming, the last one is NULL.
CREATE OR REPLACE FUNCTION {trim}(
    after text, most_channels integer, most_events integer,
    keep bigint, seconds double precision, slack bigint, slack_seconds double precision,
    OUT next_after text, OUT deleted bigint, OUT is_end boolean
) LANGUAGE plpgsql VOLATILE
{one_plan}
AS $body$
DECLARE
    looked_at text;
    beginning bigint;
    ending bigint;
    newest bigint;
    first {numbers}%ROWTYPE;
    top bigint;
    old_rows bigint;
BEGIN
    next_after := after;
    deleted := 0;
    IF NOT pg_try_advisory_xact_lock({trimmer_lock}, '{numbers}'::regclass::oid::integer) THEN
        RETURN;
    END IF;
    is_end := false;
    SELECT n.sequence INTO newest FROM {numbers} n ORDER BY n.sequence DESC LIMIT 1;
    -- If the log ever loses its end, the next append sees it by this number. It is seldom written.
    UPDATE {state} SET high = newest WHERE newest > high + {high_step} + high / 100;
    FOR i IN 1..most_channels LOOP
        SELECT n.channel INTO looked_at FROM {numbers} n
        WHERE n.channel > next_after ORDER BY n.channel, n.sequence LIMIT 1;
        IF NOT FOUND THEN
            next_after := '';
            is_end := true;
            RETURN;
        END IF;
        -- Older rows are gone, but PostgreSQL may still have to pass over them.
        beginning := coalesce((SELECT t.upto FROM {trimmed} t WHERE t.channel = looked_at), 0);
        SELECT n.* INTO first FROM {numbers} n
        WHERE n.channel = looked_at AND n.sequence >= beginning ORDER BY n.sequence LIMIT 1;
        SELECT n.nth INTO top FROM {numbers} n WHERE n.channel = looked_at ORDER BY n.sequence DESC LIMIT 1;
        IF coalesce(top - first.nth + 1 - keep <= slack, true) AND coalesce(
            first.numbered >= statement_timestamp() - make_interval(secs => seconds + slack_seconds), true
        ) THEN
            next_after := looked_at;
            CONTINUE;
        END IF;
        SELECT max(o.sequence), count(*) INTO ending, old_rows FROM (
            SELECT n.sequence, n.nth, n.numbered FROM {numbers} n
            WHERE n.channel = looked_at AND n.sequence >= beginning ORDER BY n.sequence LIMIT most_events
        ) o
        WHERE o.nth <= top - keep OR o.numbered < statement_timestamp() - make_interval(secs => seconds);
        IF old_rows > 0 THEN
            DELETE FROM {events} e USING {numbers} n
            WHERE n.channel = looked_at AND n.sequence >= beginning AND n.sequence <= ending
                AND e.transaction = n.transaction AND e.place = n.place;
            GET DIAGNOSTICS top = ROW_COUNT;
            deleted := deleted + top;
            -- The newest row stays in any case, as the next batch begins after it.
            DELETE FROM {numbers} n
            WHERE n.channel = looked_at AND n.sequence >= beginning AND n.sequence <= ending
                AND n.sequence < newest;
            IF ending > beginning THEN
                INSERT INTO {trimmed} AS t (channel, upto) VALUES (looked_at, ending)
                ON CONFLICT (channel) DO UPDATE SET upto = excluded.upto;
            END IF;
        END IF;
        IF old_rows < most_events THEN
            next_after := looked_at;
        END IF;
        EXIT WHEN deleted >= most_events;
    END LOOP;
END
$body$;
