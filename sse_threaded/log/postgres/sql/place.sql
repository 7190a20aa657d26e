-- The files of the tables, whose names have the database's number, and the server's timeline. They change when the
-- database is copied or restored, when a table is emptied, and when a replica takes over. They also change by
-- VACUUM FULL, which loses nothing and does no harm.
CREATE OR REPLACE FUNCTION {place}() RETURNS text LANGUAGE sql VOLATILE AS $body$
    SELECT concat(
        pg_catalog.pg_relation_filepath('{numbers}'::regclass), ' ',
        pg_catalog.pg_relation_filepath('{events}'::regclass), ' ',
        left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8)
    )
$body$;
