-- Adds an event in the caller's transaction, whatever that is. It gets its number after the commit. "wakes" says
-- whether to wake the process that gives the numbers. A transaction that is to be prepared must not do that.
-- PostgreSQL's text has no zero byte. The log writes it as chr(1) || '0', and chr(1) as chr(1) || '1'.
CREATE OR REPLACE FUNCTION {publish}(
    channel text, data text, event text DEFAULT NULL, wakes boolean DEFAULT true
) RETURNS void LANGUAGE plpgsql VOLATILE AS $body$
BEGIN
    INSERT INTO {events} (channel, event, data) VALUES ($1, $3, $2);
    IF $4 THEN
        PERFORM pg_notify('{bell}', 'pending');
    END IF;
END
$body$;
