// Requests that change something, or for which a person waits. The result is an answer, or an error that says what
// to do.

const TIMEOUT_MS = 15_000;

// The server, or something that it needs, cannot be reached for some time. `message` says what happened.
export class Away extends Error {}

// Aborts with `signal`, or after a time in milliseconds. Browsers before 2024 have no AbortSignal.any.
export function limited(signal, milliseconds) {
  const limit = new AbortController();
  const end = () => limit.abort();
  setTimeout(end, milliseconds);
  signal?.addEventListener("abort", end, { signal: limit.signal });
  if (signal?.aborted) end();
  return limit.signal;
}

export async function send(method, url, body) {
  let response;
  try {
    response = await fetch(url, {
      method,
      headers: { Accept: "application/json", ...(body && { "Content-Type": "application/json" }) },
      body: body && JSON.stringify(body),
      cache: "no-store",
      signal: limited(null, TIMEOUT_MS),
    });
  } catch (error) {
    // It is unknown whether the change was saved, also when the server is back.
    if (error.name === "AbortError") throw new Error("No answer came; see whether it was saved.");
    throw new Away("The server cannot be reached.");
  }
  if (response.ok) return response;
  const { detail } = await response.json().catch(() => ({}));
  const away = [502, 503, 504].includes(response.status);
  throw new (away ? Away : Error)(detail ?? `The server answered ${response.status}; try again later.`);
}
