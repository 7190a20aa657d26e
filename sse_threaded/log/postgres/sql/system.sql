-- The server's number, which initdb draws. NULL where the role must not read it.
CREATE OR REPLACE FUNCTION {system}() RETURNS text LANGUAGE plpgsql VOLATILE AS $body$
BEGIN
    RETURN (SELECT c.system_identifier FROM pg_catalog.pg_control_system() c);
EXCEPTION WHEN insufficient_privilege THEN
    RETURN NULL;
END
$body$;
