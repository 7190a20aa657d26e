// What all pages share: they tell the page around them what their client has handed to the app.
const client = location.hostname.replace(".localhost", "");

// Whether the page does without the code that docs/clients.md has for it.
const byDefault = client.endsWith("-default");

// Whether it does without the code for finished channels.
const endless = client.endsWith("-endless");

function report(what) {
  parent.postMessage({ client, report: what }, "*");
}

function events(channel) {
  return `/events/${client}/${channel}`;
}

addEventListener("error", (event) => report({ error: event.message }));
addEventListener("unhandledrejection", (event) => report({ error: String(event.reason) }));

// For clients that change the document: each new item of the list is an event.
function watch(list) {
  new MutationObserver((records) => {
    for (const { addedNodes } of records) {
      for (const node of addedNodes) {
        if (node.nodeType === Node.ELEMENT_NODE) report({ n: Number(node.textContent) });
        else if (node.textContent.trim()) report({ error: `text: ${node.textContent}` });
      }
    }
  }).observe(list, { childList: true });
}
