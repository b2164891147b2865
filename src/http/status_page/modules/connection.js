// The connection to the daemon: the stream while the page is seen, the attention list always.

import { setText } from "./dom.js";
import { clock } from "./format.js";
import { daemon, drop, keyOf, put, watches } from "./watches.js";

// The daemon sends a message at least every 10 s.
const SILENCE = 25000;
const RETRY = 3000;
const ATTENTION_INTERVAL = 5000;
const HIDDEN_INTERVAL = 30000;
const FIRST_PAGE = 100;
const PAGE = 1000;

// Failed requests are not logged here: the browser does that.
export async function getJson(path) {
  // An address that was opened with a password cannot be the base of a request.
  const response = await fetch(new URL(path, location.href), { cache: "no-store" });
  if (!response.ok) throw Object.assign(new Error(`${path}: ${response.status}`), { status: response.status });
  return response.json();
}

// A list that has pages, item by item.
export async function* pages(path, size) {
  let after = null;
  do {
    const query = new URLSearchParams({ limit: size });
    if (after !== null) query.set("after", after);
    const page = await getJson(`${path}${path.includes("?") ? "&" : "?"}${query}`);
    yield page;
    after = page.next;
  } while (after);
}

export class Connection {
  #stream = null;
  #retry = 0;
  #heard = Date.now();
  #loading = null;
  #waiting = [];
  #lastTotal = null;
  #lastLoad = 0;
  #isReading = false;
  #changed;

  // `changed` gets what is new: "list" (operations), "daemon" (connection and projects), "attention", "live" (connected),
  // "loaded" (all operations) or "time" (nothing else).
  constructor(changed) {
    this.#changed = changed;
    this.isLoaded = false;
    this.lostSince = null;
    this.#loadFirst();
    document.addEventListener("visibilitychange", () => this.#adapt());
    setInterval(() => this.#watchSilence(), RETRY);
    this.#adapt();
  }

  #adapt() {
    clearInterval(this.attentionTimer);
    const isHidden = document.visibilityState === "hidden";
    this.attentionTimer = setInterval(() => this.readAttention(), isHidden ? HIDDEN_INTERVAL : ATTENTION_INTERVAL);
    if (isHidden) this.#close();
    else this.#connect();
    this.readAttention();
  }

  #close() {
    clearTimeout(this.#retry);
    this.#stream?.close();
    this.#stream = null;
  }

  #connect() {
    this.#close();
    this.#heard = Date.now();
    const stream = new EventSource("api/events/stream");
    this.#stream = stream;
    stream.addEventListener("open", () => {
      this.#markAlive();
      this.load();
      this.readAttention();
      this.#changed("live");
    });
    stream.addEventListener("snapshot", (message) => {
      this.#markAlive();
      const snapshot = JSON.parse(message.data);
      clock.offset = Date.parse(snapshot.time) - Date.now();
      this.#takeState(snapshot);
      if (this.#loading) this.#waiting.push(snapshot);
      else this.#take(snapshot);
    });
    stream.addEventListener("error", () => {
      this.#markLost();
      // The browser does not retry a refused stream.
      if (stream.readyState === EventSource.CLOSED) this.#retry = setTimeout(() => this.#connect(), RETRY);
    });
  }

  #watchSilence() {
    if (!this.#stream || Date.now() - this.#heard < SILENCE) return;
    this.#markLost();
    this.#connect();
  }

  #markAlive() {
    this.#heard = Date.now();
    if (!daemon.isLost && this.isLive) return;
    daemon.isLost = false;
    this.isLive = true;
    this.#changed("daemon");
  }

  #markLost() {
    if (daemon.isLost) return;
    daemon.isLost = true;
    this.isLive = false;
    this.lostSince = this.#heard;
    this.#changed("daemon");
  }

  // The state of projects, and how many operations there are.
  #takeState(snapshot) {
    this.phases = snapshot.phases;
    const before = JSON.stringify([...daemon.projects.values()]);
    daemon.projects = new Map(snapshot.projects.map((project) => [project.name, project]));
    if (before === JSON.stringify(snapshot.projects)) return;
    this.readAttention();
    this.#changed("daemon");
  }

  #take(snapshot) {
    for (const gone of snapshot.removed) drop(keyOf(gone));
    for (const data of snapshot.operations) put(data, true);
    const total = Object.values(snapshot.phases).reduce((sum, value) => sum + value, 0);
    // A snapshot was missed, or one snapshot could not carry all changes.
    if (total !== watches.size && total === this.#lastTotal && Date.now() - this.#lastLoad > ATTENTION_INTERVAL) this.load();
    this.#lastTotal = total;
    this.#changed(snapshot.operations.length || snapshot.removed.length ? "list" : "time");
  }

  // The first rows are shown before the stream is connected; the list is loaded after that.
  async #loadFirst() {
    try {
      const { operations } = await getJson(`api/operations?limit=${FIRST_PAGE}`);
      for (const data of operations) put(data, true);
      this.#changed("list");
    } catch {
      // The load after the connection tries again.
    }
  }

  // Loads the whole list. Snapshots that arrive during the load are applied afterwards.
  load() {
    this.#loading ??= this.#loadAll().catch(() => {
      setTimeout(() => this.#stream && this.load(), RETRY);
    }).finally(() => {
      this.#loading = null;
      this.#lastLoad = Date.now();
      for (const snapshot of this.#waiting.splice(0)) this.#take(snapshot);
      this.#changed("loaded");
    });
    return this.#loading;
  }

  async #loadAll() {
    const seen = new Set();
    for await (const page of pages("api/operations", PAGE)) {
      for (const data of page.operations) {
        seen.add(keyOf(data));
        put(data, false);
      }
      this.#changed("list");
    }
    for (const key of [...watches.keys()]) if (!seen.has(key)) drop(key);
    this.isLoaded = true;
  }

  async readAttention() {
    if (this.#isReading) return;
    this.#isReading = true;
    try {
      const { attention } = await getJson("api/attention");
      // In a hidden tab this is the only sign of life.
      if (!this.#stream) this.#markAlive();
      daemon.attention = attention;
      this.#changed("attention");
    } catch (error) {
      // Otherwise the stream shows whether the daemon answers.
      if (!this.#stream) this.#markLost();
      console.debug(error);
    } finally {
      this.#isReading = false;
    }
  }
}

export function connectionText(connection) {
  const words = daemon.isLost ? "Connection lost" : connection.isLive ? "Live" : "Connecting…";
  setText(document.getElementById("connection-text"), words);
  document.getElementById("connection").dataset.state = daemon.isLost ? "lost" : connection.isLive ? "live" : "connecting";
}
