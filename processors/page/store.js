// The latest live state, from server-sent events. It outlives the server: what was last heard stays until something newer comes.

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 8000;
const SILENT_MS = 15000; // the server says something every 5 s even when nothing changes

export class Live {
  constructor(address) {
    Object.assign(this, { address, state: null, link: "connecting", heardAt: performance.now(), listeners: new Set(), retryMs: FIRST_RETRY_MS, due: false });
  }

  start() {
    this.connect();
    setInterval(() => {
      if (this.link === "live" && performance.now() - this.heardAt > SILENT_MS) this.lost();
      else if (this.link !== "live") this.tell();
    }, 1000);
    addEventListener("online", () => this.link === "lost" && this.again(0));
  }

  connect() {
    clearTimeout(this.timer);
    const source = new EventSource(this.address);
    this.source = source;
    source.onmessage = (event) => {
      if (source !== this.source) return;
      this.heard();
      this.retryMs = FIRST_RETRY_MS;
      this.state = JSON.parse(event.data);
      this.soon();
    };
    source.onopen = () => source === this.source && this.heard();
    source.onerror = () => source === this.source && this.lost();
  }

  heard() {
    this.heardAt = performance.now();
    if (this.link === "live") return;
    this.link = "live";
    this.soon();
  }

  // Reconnecting is ours: a browser gives up for good on the answer of a server that is just starting.
  lost() {
    this.source.close();
    this.link = "lost";
    this.again(this.retryMs * (0.7 + 0.6 * Math.random()));
    this.retryMs = Math.min(this.retryMs * 2, LAST_RETRY_MS);
    this.tell();
  }

  again(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), ms);
  }

  silentSeconds() {
    return Math.round((performance.now() - this.heardAt) / 1000);
  }

  listen(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  // At most once a picture, whatever comes.
  soon() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => {
      this.due = false;
      this.tell();
    });
  }

  tell() {
    for (const listener of this.listeners) listener(this);
  }
}
