import { EventSource } from "eventsource";

const source = new EventSource(process.env.EVENTS);
source.addEventListener("stream-start", () => console.log('{"start": true}'));
source.onmessage = (event) => console.log(JSON.stringify({ n: JSON.parse(event.data).n }));
setInterval(() => {}, 1e9); // while it waits to reconnect, it does not keep node running
