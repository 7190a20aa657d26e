import { EventSource } from "eventsource-4";

const source = new EventSource(process.env.EVENTS);
source.addEventListener("stream-start", () => console.log('{"start": true}'));
source.onmessage = (event) => console.log(JSON.stringify({ n: JSON.parse(event.data).n }));
