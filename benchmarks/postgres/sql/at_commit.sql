-- Way (a): a deferred constraint trigger gives the number at the commit. The row of the counter stays locked until the
-- commit is on the disk.
CREATE TABLE events (
    place bigint NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel text COLLATE "C" NOT NULL,
    event text,
    data text NOT NULL
);
CREATE TABLE numbers (
    sequence bigint PRIMARY KEY,
    place bigint NOT NULL,
    channel text COLLATE "C" NOT NULL,
    numbered timestamptz NOT NULL DEFAULT statement_timestamp()
);
CREATE UNIQUE INDEX ON numbers (channel, sequence);
CREATE TABLE counter (last bigint NOT NULL) WITH (fillfactor = 10);
INSERT INTO counter VALUES (0);
CREATE FUNCTION give_number() RETURNS trigger LANGUAGE plpgsql AS $body$
DECLARE
    given bigint;
BEGIN
    UPDATE counter SET last = last + 1 RETURNING last INTO given;
    INSERT INTO numbers (sequence, place, channel) VALUES (given, NEW.place, NEW.channel);
    PERFORM pg_notify('bell', given::text);
    RETURN NULL;
END
$body$;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON events
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION give_number();
