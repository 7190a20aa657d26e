// Only the http module of node: node node_raw.mjs PORT
import http from "node:http";

const channels = new Map();

const of = (name) => channels.get(name) ?? channels.set(name, new Set()).get(name);

http.createServer((request, response) => {
    const streams = of(request.url.split("channel=")[1]);
    if (request.method === "POST") {
        let body = "";
        request.setEncoding("utf8");
        request.on("data", (part) => { body += part; });
        request.on("end", () => {
            for (const line of body.split("\n")) {
                const event = `data: ${line}\n\n`;
                for (const stream of streams) stream.write(event);
            }
            response.writeHead(204).end();
        });
        return;
    }
    response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
    response.write(": hi\n\n");
    streams.add(response);
    response.on("close", () => streams.delete(response));
}).listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
