-- The first transaction after those that a batch takes. This is the last one that was read, perhaps in part. If
-- only one was read, it is the one after it. NULL if all were read, from "first" on.
CREATE OR REPLACE FUNCTION {bound}(transactions xid8[], first xid8) RETURNS xid8 LANGUAGE sql IMMUTABLE AS $body$
    SELECT CASE WHEN count(*) >= {batch} THEN
        (max(t::text::bigint) + CASE WHEN count(DISTINCT t) > 1 THEN 0 ELSE 1 END)::text::xid8
    END
    FROM unnest(transactions) t WHERE t >= first
$body$;
