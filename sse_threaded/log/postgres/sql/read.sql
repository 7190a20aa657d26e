-- One page of events, oldest first. Each row also has the epoch, the newest number, and the newest number that was
-- trimmed in the channels. If there are no events, one row has only these. "is_there" is false for an event that
-- was trimmed or lost.
CREATE OR REPLACE FUNCTION {read}(after bigint, wanted text[], upto bigint, most integer, size bigint)
RETURNS TABLE (
    epoch text, last bigint, trimmed bigint, sequence bigint, channel text, is_there boolean, event text, data text
) LANGUAGE plpgsql STABLE
{one_plan}
AS $body$
#variable_conflict use_column
BEGIN
    IF wanted IS NULL THEN
        -- Readers of all events do not need the table of trimmed numbers: they know those by the gap.
        RETURN QUERY
        SELECT s.epoch, coalesce((SELECT n.sequence FROM {numbers} n ORDER BY n.sequence DESC LIMIT 1), 0),
            NULL::bigint, m.sequence, m.channel, m.is_there, m.event, m.data
        FROM {state} s LEFT JOIN (
            SELECT p.sequence, p.channel, e.place IS NOT NULL AS is_there, e.event, e.data,
                count(*) OVER before AS nr, sum(coalesce(octet_length(e.data), 0)) OVER before AS bytes
            FROM (
                SELECT n.sequence, n.transaction, n.place, n.channel FROM {numbers} n
                WHERE n.sequence > after AND (upto IS NULL OR n.sequence <= upto)
                ORDER BY n.sequence LIMIT most
            ) p LEFT JOIN {events} e ON e.transaction = p.transaction AND e.place = p.place
            WINDOW before AS (ORDER BY p.sequence ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        ) m ON m.nr < 2 OR m.bytes <= size
        ORDER BY m.sequence;
        RETURN;
    END IF;
    RETURN QUERY
    WITH log AS MATERIALIZED (
        SELECT s.epoch,
            coalesce((SELECT n.sequence FROM {numbers} n ORDER BY n.sequence DESC LIMIT 1), 0) AS last,
            (
                SELECT max(coalesce(t.upto, others.upto))
                FROM unnest(wanted) AS name (channel)
                LEFT JOIN {trimmed} t ON t.channel = name.channel
                LEFT JOIN {trimmed} others ON others.channel = ''
            ) AS trimmed
        FROM {state} s
    ), page AS (
        (
            SELECT n.sequence, n.transaction, n.place, n.channel FROM {numbers} n
            WHERE wanted IS NULL AND n.sequence > after AND (upto IS NULL OR n.sequence <= upto)
            ORDER BY n.sequence LIMIT most
        )
        UNION ALL
        (
            SELECT n.* FROM (SELECT DISTINCT unnest(wanted) AS channel) name, LATERAL (
                SELECT n.sequence, n.transaction, n.place, n.channel FROM {numbers} n
                WHERE n.channel = name.channel AND n.sequence > after AND (upto IS NULL OR n.sequence <= upto)
                ORDER BY n.sequence LIMIT most
            ) n
            ORDER BY n.sequence LIMIT most
        )
    ), measured AS (
        SELECT p.sequence, p.channel, e.place IS NOT NULL AS is_there, e.event, e.data,
            row_number() OVER (ORDER BY p.sequence) AS nr,
            -- Of the data before it. PostgreSQL knows the length without reading long data.
            sum(coalesce(octet_length(e.data), 0)) OVER (ORDER BY p.sequence ROWS UNBOUNDED PRECEDING)
                - coalesce(octet_length(e.data), 0) AS bytes
        FROM page p LEFT JOIN {events} e ON e.transaction = p.transaction AND e.place = p.place
    )
    SELECT l.epoch, l.last, l.trimmed, m.sequence, m.channel, m.is_there, m.event, m.data
    FROM log l LEFT JOIN measured m ON m.nr <= 2 OR m.bytes <= size
    ORDER BY m.sequence;
END
$body$;
