-- Adds an event in the caller's transaction, whatever that is. It gets its number after the commit. "wakes" says
-- whether to wake the process that gives the numbers. A transaction that is to be prepared must not do that. It
-- returns true if that process is awake: then it looks for the event by itself.
-- PostgreSQL's text has no zero byte. The log writes it as chr(1) || '0', and chr(1) as chr(1) || '1'.
CREATE OR REPLACE FUNCTION {publish}(
    channel text, data text, event text DEFAULT NULL, wakes boolean DEFAULT true
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $body$
BEGIN
    -- First the row, which gives the transaction its number, and then the look: a process that falls asleep knows
    -- the transactions that are open.
    INSERT INTO {events} (channel, event, data) VALUES ($1, $3, $2);
    IF NOT $4 THEN
        RETURN false;
    END IF;
    IF {is_awake} THEN
        RETURN true;
    END IF;
    PERFORM pg_notify('{bell}', 'pending');
    RETURN false;
END
$body$;
