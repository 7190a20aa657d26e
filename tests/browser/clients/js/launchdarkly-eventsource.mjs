import { EventSource } from "launchdarkly-eventsource";

const source = new EventSource(process.env.EVENTS);
source.addEventListener("stream-start", () => console.log('{"start": true}'));
source.onerror = () => {}; // an EventEmitter throws an "error" to which nobody listens
source.onmessage = (event) => console.log(JSON.stringify({ n: JSON.parse(event.data).n }));
