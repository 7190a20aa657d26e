-- Way (b): an event has no number but the place of its transaction. Readers read only the events of transactions that
-- are older than the oldest one that runs, so that none can appear before them.
CREATE TABLE events (
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    place bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    channel text COLLATE "C" NOT NULL,
    event text,
    data text NOT NULL,
    PRIMARY KEY (transaction, place)
);
CREATE UNIQUE INDEX ON events (channel, transaction, place);
