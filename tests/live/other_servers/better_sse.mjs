// The same stream as that of sse_starlette_app.py, made with better-sse. PORT is in the environment.
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { createSession } from "better-sse";

const aConnection = 7;

createServer(async (request, response) => {
  if (request.url === "/healthz") return response.end("ok");
  const last = Number(request.url.split("/").pop());
  const begin = Number(request.headers["last-event-id"] ?? 0) + 1;
  if (begin > last) return response.writeHead(204).end();
  const options = { retry: 20, keepAlive: 1000 };
  const session = await createSession(request, response, options);
  for (let number = begin; number < begin + aConnection && number <= last; number += 1) {
    if (!session.isConnected) return;
    session.push([number, "of many\n"], "number", String(number));
    await sleep(10);
  }
  response.end();
}).listen(Number(process.env.PORT), "127.0.0.1");
