// What is wrong now: the list, the state in words, the title and the icon of the tab.

import { $, icon, isolated, make, setAttribute, setIcon, setText, timeElement, withCommands } from "./dom.js";
import * as format from "./format.js";
import { hrefOf } from "./rows.js";
import { PHASES, daemon, titleOf, watches } from "./watches.js";

const SHOWN = { wide: 5, beside: 2, narrow: 1 };
const narrow = matchMedia("(max-width: 40rem)");
const NAMES = {
  api_unreachable: "API unreachable", credentials_rejected: "API key rejected",
  operation_unreachable: ["operation unreachable", "operations unreachable"],
  operation_stalled: ["operation stalled", "operations stalled"],
  operation_overdue: ["operation overdue", "operations overdue"],
  operation_failed: ["operation did not succeed", "operations did not succeed"],
  endpoint_failing: ["webhook failing", "webhooks failing"], endpoint_disabled: ["webhook disabled", "webhooks disabled"],
  endpoint_without_secret: ["webhook without a secret", "webhooks without a secret"],
  dead_letters: "dead letters", watch_list_unreadable: "watch list unreadable",
  watch_list_rejected_lines: "rejected lines in the watch list", watch_list_shrunk: "watch list shrunk",
  gate_saturated: "polls are late", paused_by_api: "API asked for a pause", log_dropped: "log lines dropped",
};

// Unfolded, the list has at most this many entries; the API has all.
const MOST = 500;

let isOpen = false;

const totalOf = (entries) => entries.reduce((sum, entry) => sum + (entry.count ?? 1), 0);

// An entry about an operation links to its detail view.
export const operationOf = (entry) => (entry.project && entry.subject && /^(operation_|poller_)/.test(entry.kind) ? `${entry.project}/${entry.subject}` : null);

function kindText(kind, total) {
  const name = NAMES[kind] ?? format.clean(kind).replaceAll("_", " ");
  if (Array.isArray(name)) return `${format.count(total)} ${name[total === 1 ? 0 : 1]}`;
  return name;
}

function stateText(phases) {
  const parts = PHASES.filter((phase) => phases[phase] && (phase === "running" || phase === "pending" || phase === "stalled"))
    .map((phase) => `${format.count(phases[phase])} ${phase}`);
  const finished = ["succeeded", "failed", "ended", "gone", "expired"].reduce((sum, phase) => sum + (phases[phase] ?? 0), 0);
  if (finished) parts.push(`${format.count(finished)} finished`);
  return parts.join(", ") || "nothing is watched";
}

// Updates the state in words, the title and the icon.
export function showState(connection, detailTitle) {
  const entries = daemon.attention;
  const total = entries ? totalOf(entries) : 0;
  const hasError = entries?.some((entry) => entry.severity === "error");
  const state = daemon.isLost ? "lost" : !entries ? "loading" : total === 0 ? "healthy" : hasError ? "error" : "warning";
  const problems = () => `${format.plural(total, "problem")}: ${kindsText(entries)}`;
  const words = {
    lost: () => `No connection to the daemon since ${format.atTime(connection.lostSince)}; figures are from then. Reconnecting…`,
    loading: () => "Loading…",
    healthy: () => `No problems: ${stateText(connection.phases ?? {})}`,
    error: problems,
    warning: problems,
  }[state]();
  document.body.dataset.state = state;
  setText($("state-text"), words);
  setAttribute($("state"), "title", words);
  setIcon($("state-icon"), { lost: "lost", loading: "pending", healthy: "succeeded", error: "error", warning: "warning" }[state]);
  const mark = { lost: "(!) No connection – ", error: `(${format.count(total)}) `, warning: `(${format.count(total)}) ` }[state] ?? "";
  const title = `${mark}${detailTitle ? `${detailTitle} – ` : ""}backfill-watch`;
  if (document.title !== title) document.title = title;
  setAttribute($("favicon"), "href", { lost: "favicon-lost.svg", error: "favicon-error.svg", warning: "favicon-warning.svg" }[state] ?? "favicon.svg");
}

function kindsText(entries) {
  const kinds = new Map();
  for (const entry of entries) kinds.set(entry.kind, (kinds.get(entry.kind) ?? 0) + (entry.count ?? 1));
  const texts = [...kinds].map(([kind, total]) => kindText(kind, total));
  return texts.length > 4 ? `${texts.slice(0, 3).join(", ")} and more` : texts.join(", ");
}

const sinceText = (entry) => (entry.since ? `for ${format.span(Math.max(1, format.secondsSince(entry.since)))}` : "");

export function attentionItem(entry, isInDetail = false) {
  const key = operationOf(entry);
  const about = make("p", { class: "about" });
  if (entry.project) about.append(make("span", { class: "key" }, "project "), isolated(entry.project));
  if (entry.subject && !isInDetail) {
    const subject = isolated(subjectOf(entry));
    if (/^(endpoint_|dead_letters)/.test(entry.kind)) about.append(make("span", { class: "key" }, "webhook "));
    about.append(entry.project ? " · " : "", key ? make("a", { href: hrefOf(key), "data-open": key }, subject) : subject);
  }
  const isError = entry.severity === "error";
  return make("li", { class: "entry", "data-severity": entry.severity, "data-kind": entry.kind },
    make("span", { class: "severity" }, icon(isError ? "error" : "warning"), isError ? "Error" : "Warning"),
    make("div", { class: "words" },
      make("p", { class: "message" }, ...withCommands(format.sentence(entry.message))),
      make("p", { class: "action" }, make("span", { class: "key" }, "To do: "), ...withCommands(entry.action))),
    make("div", { class: "context" },
      entry.since ? timeElement(sinceText(entry), `Since ${format.absolute(entry.since)}`, entry.since) : null,
      about.childNodes.length ? about : null));
}

function subjectOf(entry) {
  const watch = watches.get(operationOf(entry));
  return watch ? titleOf(watch) : entry.subject;
}

let shown = "";

export function showAttention() {
  const entries = daemon.attention ?? [];
  $("attention").hidden = entries.length === 0;
  // Only what changed is drawn again: a selection or the focus stays.
  const limit = narrow.matches ? SHOWN.narrow : document.body.classList.contains("has-detail") ? SHOWN.beside : SHOWN.wide;
  const state = JSON.stringify([entries, isOpen, limit, entries.slice(0, MOST).map((entry) => subjectOf(entry))]);
  if (state === shown) {
    tickAttention(entries);
    return;
  }
  shown = state;
  const first = entries.length > limit && !isOpen ? entries.slice(0, limit) : entries.slice(0, MOST);
  $("attention-list").replaceChildren(...first.map((entry) => attentionItem(entry)));
  const more = $("attention-more");
  more.hidden = entries.length <= limit;
  setAttribute(more, "aria-expanded", String(isOpen));
  setText(more, isOpen ? "Show fewer" : `${format.count(totalOf(entries) - totalOf(first))} more`);
}

export function tickAttention(entries = daemon.attention ?? []) {
  const items = $("attention-list").children;
  for (let index = 0; index < items.length; index += 1) {
    const time = items[index].querySelector("time");
    if (time && entries[index]) setText(time, sinceText(entries[index]));
  }
}

export function listenToAttention() {
  // The browser keeps the icons, so that it has them when the daemon does not answer.
  for (const name of ["error", "lost", "warning"]) fetch(new URL(`favicon-${name}.svg`, location.href)).catch(() => {});
  $("attention-more").addEventListener("click", () => {
    isOpen = !isOpen;
    showAttention();
  });
  narrow.addEventListener("change", showAttention);
}
