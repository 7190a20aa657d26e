// better-sse: each stream has a session, and a channel sends to its sessions: node with_better_sse.mjs PORT
import http from "node:http";
import { createRequire } from "node:module";

// It is installed in the folder BENCH_NODE, with the other peers.
const { createChannel, createSession } = createRequire(`${process.env.BENCH_NODE}/`)("better-sse");

const channels = new Map();

const of = (name) => channels.get(name) ?? channels.set(name, createChannel()).get(name);

http.createServer(async (request, response) => {
    const channel = of(request.url.split("channel=")[1]);
    if (request.method === "POST") {
        let body = "";
        request.setEncoding("utf8");
        for await (const part of request) body += part;
        for (const line of body.split("\n")) channel.broadcast(line);
        response.writeHead(204).end();
        return;
    }
    // The published data is JSON already.
    channel.register(await createSession(request, response, { serializer: String }));
}).listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
