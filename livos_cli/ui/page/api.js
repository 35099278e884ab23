// Requests to the server, and its news. Errors that a person can mend are Refused.

export class Refused extends Error {
  constructor(told) {
    super(told.hint ? `${told.error} — ${told.hint}` : told.error);
    this.exists = told.exists;
  }
}

async function checked(answer) {
  if (answer.ok) return answer;
  if (answer.status === 409) throw new Refused(await answer.json());
  throw new Error(await answer.text());
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server does not answer: start `livos ui` again");
  }
  return checked(answer);
}

export async function get(path) {
  return (await ask(path)).json();
}

export async function post(name, body = {}) {
  const answer = await ask(`/api/${name}`, { method: "POST", body: JSON.stringify(body) });
  return answer.json();
}

export async function upload(frame, file) {
  const name = encodeURIComponent(file.name);
  return (await ask(`/api/load_mask/${frame}?name=${name}`, { method: "POST", body: file })).json();
}

export async function bytes(path, signal) {
  return (await ask(path, { signal })).arrayBuffer();
}

// A picture; null where it is not there yet.
export async function picture(path, signal) {
  const answer = await ask(path, { signal });
  return answer.status === 204 ? null : createImageBitmap(await answer.blob());
}

export function listen(heard) {
  const source = new EventSource("/api/events");
  source.onmessage = (event) => heard(JSON.parse(event.data));
  source.onopen = () => heard({ kind: "open" });
  source.onerror = () => heard({ kind: "lost" });
}
