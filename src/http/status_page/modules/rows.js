// The rows of the list. Each is made once and updated in place.

import { copyButton, icon, isolated, make, setAttribute, setCopy, setIcon, setText } from "./dom.js";
import * as format from "./format.js";
import { PHASES, countText, countTitle, daemon, endText, endTitle, isStale, nameOf, otherLabels, percentOf, problemOf, rateText } from "./watches.js";

const cell = (name, ...children) => make("div", { role: "gridcell", class: `cell ${name}` }, ...children);

export function hrefOf(key) {
  const query = new URLSearchParams(location.search);
  query.set("operation", key);
  return `?${query}`;
}

export function makeRow(item) {
  const row = item.kind === "watch" ? watchRow() : item.kind === "group" ? groupRow() : lineRow();
  row.kind = item.kind;
  return row;
}

export function updateRow(row, item, index, isActive) {
  setAttribute(row.root, "aria-rowindex", index + 2);
  setAttribute(row.root, "aria-level", item.level);
  if (item.position) {
    setAttribute(row.root, "aria-posinset", item.position);
    setAttribute(row.root, "aria-setsize", item.size);
  }
  setAttribute(row.root, "tabindex", isActive ? 0 : -1);
  for (const control of row.controls) setAttribute(control, "tabindex", isActive ? 0 : -1);
  row.update(item);
}

function skeleton(kind) {
  const phase = make("span", { class: "phase" }, icon("running"), make("span"));
  const parts = {
    root: make("div", { role: "row", class: `row ${kind}` }),
    phase,
    bar: make("progress", { max: 100 }),
    percent: make("span", { class: "percent" }),
    note: cell("note"), count: cell("count"), rate: cell("rate"), end: cell("end"),
    controls: [],
  };
  parts.barCell = cell("bar", parts.bar, parts.percent);
  return parts;
}

function setPhase(row, phase, title) {
  setAttribute(row.root, "data-phase", phase);
  setIcon(row.phase.firstElementChild, phase);
  setText(row.phase.lastElementChild, phase);
  setAttribute(row.phase, "title", title);
}

function setBar(row, percent, name) {
  setAttribute(row.bar, "value", percent === undefined ? "0" : percent.toFixed(1));
  setAttribute(row.bar, "aria-label", name);
  setAttribute(row.bar, "aria-valuetext", percent === undefined ? "unknown" : null);
  setText(row.percent, percent === undefined ? "" : format.percent(percent));
}

function watchRow() {
  const row = skeleton("watch");
  const customer = make("bdi", { class: "customer" });
  const object = make("bdi", { class: "object" });
  const link = make("a", { class: "title" }, customer, object);
  const id = make("bdi", { class: "id" });
  const copy = copyButton("", "");
  row.root.append(cell("status", row.phase), cell("name", link), row.note, row.barCell, row.count, row.rate, row.end, cell("identity", id, copy));
  row.controls = [link, copy];
  let noted = null;
  row.update = ({ watch, label }) => {
    const { data } = watch;
    const name = nameOf(watch, label ?? daemon.groupLabel);
    const title = [name.customer, name.objects].filter(Boolean).join(" · ");
    setAttribute(row.root, "data-id", data.operationId);
    setAttribute(row.root, "data-stale", isStale(data) ? "" : null);
    setPhase(row, data.phase, data.status ? `Status: ${format.clean(data.status)}` : null);
    const isMember = label !== undefined && name.objects;
    setText(customer, isMember ? "" : format.clean(name.customer ?? ""));
    setText(object, format.clean(name.objects ?? ""));
    setAttribute(link, "title", format.clean(title));
    setAttribute(link, "href", hrefOf(watch.key));
    noted = setNote(row.note, noted, problemOf(data), otherLabels(watch, label ?? daemon.groupLabel));
    setBar(row, percentOf(data), `Progress of ${format.clean(title)}`);
    setText(row.count, countText(data, ""));
    setAttribute(row.count, "title", countTitle(data));
    setText(row.rate, rateText(data));
    setText(row.end, endText(data));
    setAttribute(row.end, "title", endTitle(data));
    setText(id, format.clean(data.operationId));
    setAttribute(id, "title", format.clean(data.operationId));
    setCopy(copy, data.operationId, `the ID ${format.clean(data.operationId)}`);
  };
  return row;
}

// A problem replaces the labels; the detail view has both.
function setNote(note, before, problem, labels) {
  const text = problem ? `!${problem}` : labels.join("\n");
  if (before === text) return before;
  setAttribute(note, "title", problem ? format.clean(problem) : labels.map(format.clean).join(", ") || null);
  note.replaceChildren(...(problem
    ? [isolated(problem, { class: "problem" })]
    : labels.map((label) => isolated(label, { class: "label" }))));
  return text;
}

function groupRow() {
  const row = skeleton("group");
  const name = make("bdi", { class: "customer" });
  row.root.append(cell("status", row.phase), cell("name", icon("open"), name), row.note, row.barCell, row.count, row.rate, row.end, cell("identity"));
  row.update = (item) => {
    setAttribute(row.root, "aria-expanded", String(item.isOpen));
    setPhase(row, item.worst, null);
    setText(name, format.clean(item.name));
    setAttribute(name, "title", format.clean(item.name));
    const words = groupNote(item);
    setText(row.note, words);
    setAttribute(row.note, "title", words);
    setBar(row, item.percent, `Progress of ${format.clean(item.name)}`);
    setText(row.count, item.records ? format.count(item.records) : "");
    setText(row.rate, item.totals.rate && item.totals.stale === 0 ? format.rate(item.totals.rate) : "");
    setAttribute(row.root, "data-stale", item.totals.stale ? "" : null);
    setText(row.end, groupEnd(item));
  };
  return row;
}

function groupNote(item) {
  const names = (objects) => objects.map(({ object }) => format.clean(object)).join(", ");
  const parts = [];
  if (item.awaited?.length) parts.push(`awaits ${names(item.awaited)}`);
  if (item.missing?.length) parts.push(`missing ${names(item.missing)}`);
  const counts = PHASES.filter((phase) => item.counts[phase]).map((phase) => `${format.count(item.counts[phase])} ${phase}`);
  return [...parts, counts.join(", ")].join("; ");
}

// A stalled operation delays the end of its group for an unknown time.
function groupEnd({ totals, isDone, latest, counts }) {
  if (isDone) return latest ? format.ago(new Date(latest).toISOString()) : "";
  if (totals.stale) return totals.seen ? `last seen ${format.ago(new Date(totals.seen).toISOString())}` : "not seen yet";
  if (counts.stalled) return `${format.count(counts.stalled)} stalled`;
  if (!totals.end) return "end unknown";
  const left = format.timeLeft(new Date(totals.end).toISOString());
  return totals.unknown ? left.replace("about", "over") : left;
}

// A fold, or the heading of what follows.
function lineRow() {
  const text = make("span");
  const mark = icon("open");
  const root = make("div", { role: "row", class: "row line" }, make("div", { role: "gridcell", class: "cell wide", "aria-colspan": 8 }, mark, text));
  const update = (item) => {
    const isFold = item.kind === "fold";
    mark.toggleAttribute("hidden", !isFold);
    setAttribute(root, "aria-expanded", isFold ? String(item.isOpen) : null);
    setText(text, isFold ? foldText(item) : item.text);
  };
  return { root, update, controls: [] };
}

function foldText({ size, isGroups, isOpen }) {
  const what = isGroups ? plainGroups(size) : `${format.count(size)} finished earlier`;
  return `${what} – ${isOpen ? "hide" : "show"}`;
}

const plainGroups = (size) => `${format.plural(size, "group")} finished earlier`;
