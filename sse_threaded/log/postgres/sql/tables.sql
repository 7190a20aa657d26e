-- The tables of a log. A writer adds its event to "events" in its own transaction, and takes no lock. The number
-- comes after the commit, in "numbers", in batches, one batch at a time. So numbers follow the order in which
-- events become visible, without a gap. A transaction that stays open holds up its own events only.
--
-- Both tables grow at their end, and lose old rows at their beginning. No row changes: while a transaction stays
-- open, PostgreSQL keeps every old version of a row, and each look would read all of them.

CREATE TABLE IF NOT EXISTS {events} (
    -- The transaction that wrote the row. A savepoint has none of its own here.
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    place bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    -- Whether its own transaction has also given it a number.
    is_numbered boolean NOT NULL DEFAULT false,
    channel text COLLATE "C" NOT NULL,
    event text,
    data text NOT NULL,
    PRIMARY KEY (transaction, place),
    -- Any program may add a row, by the function {publish}. An event that no stream can carry would stop all
    -- readers. The package's own limits are half of these, as a zero byte takes two characters here.
    CONSTRAINT valid_channel CHECK (char_length(channel) BETWEEN 1 AND 510),
    CONSTRAINT valid_event CHECK (
        char_length(event) BETWEEN 1 AND 510 AND event !~ E'[\r\n]'
        AND event <> 'reset' AND (event = 'stream-finished' OR NOT starts_with(event, 'stream-'))
    ),
    CONSTRAINT valid_data CHECK (octet_length(data) <= 8388608)
) WITH (autovacuum_vacuum_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.1);

CREATE TABLE IF NOT EXISTS {numbers} (
    sequence bigint PRIMARY KEY,
    transaction xid8 NOT NULL,
    place bigint NOT NULL,
    channel text COLLATE "C" NOT NULL,
    -- How many events the channel has had, this one included, since it last had none.
    nth bigint NOT NULL,
    numbered timestamptz NOT NULL DEFAULT statement_timestamp(),
    -- In the last row of a batch: which transactions were over when the batch was made.
    seen pg_snapshot
) WITH (autovacuum_vacuum_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.1);

CREATE UNIQUE INDEX IF NOT EXISTS {numbers_channel} ON {numbers} (channel, sequence);

-- For each channel the newest number that was trimmed. The channel '' stands for all channels without a row and
-- without events.
CREATE TABLE IF NOT EXISTS {trimmed} (
    channel text COLLATE "C" PRIMARY KEY,
    upto bigint NOT NULL
);

-- The epochs before this one. An id of such an epoch is valid up to the number in "upto".
CREATE TABLE IF NOT EXISTS {epochs} (
    nr bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    epoch text NOT NULL UNIQUE,
    upto bigint NOT NULL
);

-- The log itself: one row.
CREATE TABLE IF NOT EXISTS {state} (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    schema integer NOT NULL,
    epoch text NOT NULL,
    -- The epoch begins after this number, and has seen the end of these transactions before its first batch.
    since bigint NOT NULL,
    seen pg_snapshot NOT NULL,
    -- A number that was given. If the newest event has a smaller one, the log has lost its end.
    high bigint NOT NULL,
    -- The tables and the server that the log was in, and when that server was started.
    place text NOT NULL,
    system text,
    started timestamptz NOT NULL
);
