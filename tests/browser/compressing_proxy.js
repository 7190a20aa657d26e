// A development proxy as many front ends have: express, compression, http-proxy-middleware.
// node compressing_proxy.js DIRECTORY TARGET prints the port that it listens on; DIRECTORY has the packages.

const { createRequire } = require("node:module");
const path = require("node:path");

const [directory, target] = process.argv.slice(2);
const load = createRequire(path.join(directory, "packages.js"));
const express = load("express");
const compression = load("compression");
const { createProxyMiddleware } = load("http-proxy-middleware");

const app = express();
app.use(compression());
app.use(createProxyMiddleware({ target }));
const server = app.listen(0, "127.0.0.1", () => console.log(server.address().port));
