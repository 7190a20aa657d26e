// Datastar tells the page nothing of events that are not its own, so a copy of each answer is read here.
const fetched = window.fetch;
window.fetch = async (...request) => {
  const response = await fetched(...request);
  const reader = response.clone().body.pipeThrough(new TextDecoderStream()).getReader();
  (async () => {
    for (let text = "", part; !(part = await reader.read()).done; ) {
      text += part.value;
      if (text.includes("stream-start")) return report({ start: true });
    }
  })().catch(() => {});
  return response;
};
