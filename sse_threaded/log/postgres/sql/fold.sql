-- Forgets the oldest of the channels without events, if more than "most" channels are remembered, and some of
-- them at a time. From then on the row of the channel '' stands for them. It returns how many it has forgotten.
CREATE OR REPLACE FUNCTION {fold}(most bigint, step integer) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $body$
DECLARE
    excess bigint;
    top bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock({trimmer_lock}, '{numbers}'::regclass::oid::integer) THEN
        RETURN 0;
    END IF;
    SELECT count(*) - most INTO excess FROM {trimmed};
    IF excess <= 0 THEN
        RETURN 0;
    END IF;
    WITH folded AS (
        DELETE FROM {trimmed} t WHERE t.channel IN (
            SELECT c.channel FROM {trimmed} c
            WHERE c.channel <> ''
                AND NOT EXISTS (SELECT FROM {numbers} n WHERE n.channel = c.channel AND n.sequence > c.upto)
            ORDER BY c.upto LIMIT least(excess, step)
        )
        RETURNING t.upto
    )
    SELECT max(f.upto), count(*) INTO top, excess FROM folded f;
    IF top IS NOT NULL THEN
        INSERT INTO {trimmed} AS t (channel, upto) VALUES ('', top)
        ON CONFLICT (channel) DO UPDATE SET upto = greatest(t.upto, excluded.upto);
    END IF;
    RETURN excess;
END
$body$;
