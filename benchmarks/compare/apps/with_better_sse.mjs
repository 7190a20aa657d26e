// better-sse: a session for each stream, its channels for the fan-out: node with_better_sse.mjs PORT
import http from "node:http";
import { createRequire } from "node:module";

// It is installed beside the other peers, where BENCH_NODE says.
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
    // What is published is JSON already.
    channel.register(await createSession(request, response, { serializer: String }));
}).listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
