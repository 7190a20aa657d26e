-- Six random letters, for an epoch.
CREATE OR REPLACE FUNCTION {letters}() RETURNS text LANGUAGE sql VOLATILE AS $body$
    SELECT string_agg(chr(97 + get_byte(drawn.bytes, i) % 26), '')
    FROM (SELECT uuid_send(gen_random_uuid()) AS bytes) drawn, generate_series(0, 5) i
$body$;
