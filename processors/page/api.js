// Requests to the API this page came from. The token goes along when the page was opened with one, and `as=screen`: then nobody is named here
// who does not want to be, whoever asks.

export const BASE = "api/v1/";
const opened = new URLSearchParams(location.search);
const token = opened.get("token");
const as = opened.get("as");

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function address(path, params = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...params, as })) if (value !== null && value !== undefined && value !== "") query.set(name, value);
  const rest = query.toString();
  return BASE + path + (rest ? `?${rest}` : "");
}

// This page, in the same view, as everybody may see it.
export function screenAddress() {
  const query = new URLSearchParams(location.search);
  query.set("as", "screen");
  return `?${query}${location.hash}`;
}

// EventSource cannot send a header: the token is part of its address.
export const streamAddress = (path) => address(path, { token });

async function ask(path, params, options) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  let answer;
  try {
    answer = await fetch(address(path, params), { ...options, headers, cache: "no-store", signal: AbortSignal.timeout(10000) });
  } catch (error) {
    throw new ApiError(0, error.name === "TimeoutError" ? "The server does not answer." : "The server cannot be reached.");
  }
  if (answer.ok || answer.status === 304) return answer;
  let said = "";
  try {
    const { detail, title, cure } = await answer.json();
    said = typeof detail === "string" ? detail : title || "";
    if (cure) said += `: ${cure}`;
  } catch {
    said = answer.statusText;
  }
  throw new ApiError(answer.status, answer.status === 401 ? "This needs the token: open the page with its full address." : said || `Error ${answer.status}`);
}

export async function get(path, params) {
  return (await ask(path, params, {})).json();
}

export async function send(method, path, body) {
  const options = { method };
  if (body !== undefined) Object.assign(options, { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
  const answer = await ask(path, {}, options);
  return answer.status === 204 ? null : answer.json();
}

// A resource read again and again: null when it is what it was.
export class Repeated {
  constructor(path, params) {
    Object.assign(this, { path, params, etag: "" });
  }

  async read() {
    const answer = await ask(this.path, this.params, { headers: this.etag ? { "If-None-Match": this.etag } : {} });
    if (answer.status === 304) return null;
    this.etag = answer.headers.get("etag") || "";
    return answer.json();
  }
}

// Calls `work` every `ms` while the page is visible, never twice at once; returns what stops it.
export function every(ms, work) {
  let [stopped, timer] = [false, 0];
  async function turn() {
    if (!document.hidden) await work();
    if (!stopped) timer = setTimeout(turn, ms);
  }
  turn();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}
