import { createEventSource } from "eventsource-client";

for await (const { data, event } of createEventSource(process.env.EVENTS)) {
  const parsed = JSON.parse(data);
  if (event === "stream-start") console.log('{"start": true}');
  if (event === undefined) console.log(JSON.stringify({ n: parsed.n }));
}
