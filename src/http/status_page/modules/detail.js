// The detail view of one operation: it is read when opened, then kept up to date.

import { $, copyButton, icon, isSelecting, isolated, make, setText } from "./dom.js";
import { getJson, pages } from "./connection.js";
import { attentionItem, operationOf } from "./attention.js";
import { chart, pointsOf } from "./chart.js";
import * as parts from "./detail_parts.js";
import * as format from "./format.js";
import { countText, daemon, endText, endTitle, isFinished, percentOf, problemOf, rateText, titleOf, watches } from "./watches.js";

const EVENT_PAGE = 1000;
// The most events that are kept: the newest.
const MOST_EVENTS = 20000;
const REFRESH = 5000;
const SECTIONS = ["head", "attention", "chart", "logs", "facts", "deliveries", "events", "commands", "members"];

export class Detail {
  #key = null;
  #turn = 0;
  #data = null;
  #deliveries = null;
  #events = [];
  // The number of events that were read and not kept.
  #dropped = 0;
  // The end of what was read. Each refresh reads what came after it.
  #after = null;
  #problem = null;
  #isReading = false;
  #timer = 0;
  #sections = new Map();

  get key() {
    return this.#key;
  }

  get title() {
    if (!this.#key) return null;
    return format.clean(this.#data ? titleOf({ data: this.#data, key: this.#key }) : this.#key);
  }

  open(key) {
    if (key === this.#key) return;
    this.#key = key;
    this.#turn += 1;
    this.#data = watches.get(key)?.data ?? null;
    this.#deliveries = null;
    this.#forgetEvents();
    this.#problem = null;
    this.#isReading = false;
    this.#sections.clear();
    $("detail-body").replaceChildren();
    clearInterval(this.#timer);
    this.#timer = setInterval(() => document.visibilityState === "visible" && this.#read(), REFRESH);
    this.draw();
    this.#read();
  }

  close() {
    this.#key = null;
    this.#turn += 1;
    clearInterval(this.#timer);
    $("detail-body").replaceChildren();
    this.#sections.clear();
  }

  // Takes what the list knows; reads the rest when the operation has new events.
  refresh() {
    if (!this.#key) return;
    const data = watches.get(this.#key)?.data;
    if (data) {
      const isNew = this.#data && data.sequence !== this.#data.sequence;
      this.#data = data;
      this.#problem = null;
      if (isNew) this.#read();
    }
    this.draw();
  }

  async #read() {
    if (this.#isReading || !this.#key) return;
    this.#isReading = true;
    const turn = this.#turn;
    try {
      await this.#readOperation(turn);
      await this.#readEvents(turn);
    } catch {
      // The next refresh tries again.
    } finally {
      if (turn === this.#turn) {
        this.#isReading = false;
        this.draw();
      }
    }
  }

  async #readOperation(turn) {
    const [project, id] = split(this.#key);
    const path = project === null ? `api/operations/${encodeURIComponent(id)}` : `api/operations/${encodeURIComponent(project)}/${encodeURIComponent(id)}`;
    try {
      const data = await getJson(path);
      if (turn !== this.#turn) return;
      this.#deliveries = data.deliveries ?? null;
      this.#data = data;
      this.#problem = null;
      if (project === null) this.#key = `${data.project}/${data.operationId}`;
    } catch (error) {
      if (turn !== this.#turn) return;
      if (error.status === 404 || error.status === 400) {
        this.#data = null;
        this.#problem = "unknown";
      } else if (error.status === 409) this.#problem = "ambiguous";
      else if (!this.#data) this.#problem = "unread";
    }
  }

  async #readEvents(turn) {
    if (split(this.#key)[0] === null) return;
    const query = new URLSearchParams({ operation: this.#key });
    if (this.#after) query.set("after", this.#after);
    try {
      for await (const page of pages(`api/events?${query}`, EVENT_PAGE)) {
        if (turn !== this.#turn) return;
        this.#events.push(...page.events);
        const excess = Math.max(0, this.#events.length - MOST_EVENTS);
        this.#events.splice(0, excess);
        this.#dropped += excess;
        this.#after = page.next ?? this.#after;
        if (page.events.length < EVENT_PAGE) return;
      }
    } catch (error) {
      // The log no longer reaches back to the cursor: the next read starts again.
      if (error.status !== 410) throw error;
      this.#forgetEvents();
    }
  }

  #forgetEvents() {
    this.#events = [];
    this.#dropped = 0;
    this.#after = null;
  }

  draw() {
    if (!this.#key) return;
    const data = this.#data;
    setText($("detail-title"), this.title);
    const [project, id] = split(this.#key);
    if (!data) {
      this.#section("head", [this.#key, this.#problem], () => parts.missing(this.#problem, project, id));
      this.#section("events", [this.#events.length], () => (this.#events.length ? parts.events(this.#events, this.#dropped) : null));
      return;
    }
    const attention = (daemon.attention ?? []).filter((entry) => operationOf(entry) === `${data.project}/${data.operationId}`);
    this.#section("head", [data, this.#headTexts(data), attention.length], () => this.#head(data, attention.length > 0));
    this.#section("attention", [attention], () => (attention.length ? make("ul", { class: "entries" }, ...attention.map((entry) => attentionItem(entry, true))) : null));
    const points = pointsOf(this.#events, data);
    this.#section("chart", [points, data.phase], () => parts.section("Progress", chart(points, data)));
    const logs = this.#events.findLast((event) => event.data.logs?.length);
    this.#section("logs", [logs?.id], () => (logs ? parts.logs(logs) : null));
    this.#section("facts", [data, Math.floor(format.now() / REFRESH)], () => parts.facts(data));
    this.#section("deliveries", [this.#deliveries, Math.floor(format.now() / REFRESH)], () => parts.deliveries(this.#deliveries));
    this.#section("events", [this.#events.length, this.#events.at(-1)?.id], () => parts.events(this.#events, this.#dropped));
    this.#section("commands", [data.project, data.operationId], () => parts.commands(data));
    this.#section("members", [data], () => parts.members(data));
  }

  #headTexts(data) {
    return [endText(data), rateText(data), daemon.isLost];
  }

  // The attention list says what is wrong; without an entry, this does.
  #head(data, isExplained) {
    const percent = percentOf(data);
    const problem = isExplained ? null : problemOf(data);
    const end = endText(data);
    return make("div", { class: "head", "data-phase": data.phase },
      make("p", { class: "line" },
        make("span", { class: "phase" }, icon(data.phase), data.phase),
        make("span", { class: "line-end", title: endTitle(data) }, isFinished(data) && end ? `finished ${end}` : end),
        make("span", { class: "rate" }, rateText(data))),
      problem ? make("p", { class: "problem" }, isolated(problem)) : null,
      make("div", { class: "bar" },
        make("progress", { max: 100, value: percent === undefined ? 0 : percent.toFixed(1), "aria-label": "Progress" }),
        make("span", { class: "percent" }, percent === undefined ? "" : format.percent(percent))),
      make("p", { class: "count" }, countText(data)),
      make("p", { class: "identity" }, isolated(data.operationId, { class: "id" }), copyButton(data.operationId, "the operation ID")));
  }

  // Draws a section again if what it shows has changed. The focus in it stays; a selection in it delays that.
  #section(name, inputs, build) {
    const state = JSON.stringify(inputs);
    const known = this.#sections.get(name);
    if (known?.state === state || (known && isSelecting(known.node))) return;
    const node = build() ?? make("div", { hidden: true });
    if (known) replace(known.node, node);
    else {
      const next = SECTIONS.slice(SECTIONS.indexOf(name) + 1).find((later) => this.#sections.has(later));
      $("detail-body").insertBefore(node, next ? this.#sections.get(next).node : null);
    }
    this.#sections.set(name, { state, node });
  }
}

function replace(before, node) {
  const controls = (of) => [...of.querySelectorAll("a, button, summary, [tabindex]")];
  const focused = controls(before).indexOf(document.activeElement);
  const [open, details] = [before, node].map((of) => of.querySelector("details"));
  if (open && details) details.open = open.open;
  before.replaceWith(node);
  if (focused >= 0) controls(node)[focused]?.focus({ preventScroll: true });
}

// A project's name may have a slash, an operation ID has none.
export function split(key) {
  const end = key.lastIndexOf("/");
  return end < 0 ? [null, key] : [key.slice(0, end), key.slice(end + 1)];
}
