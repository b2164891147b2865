// The strip's filters and totals, and what is shown instead of an empty list.

import { $, icon, make, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { choice, hasFilter } from "./view.js";
import { PHASES, daemon, watches } from "./watches.js";

// The most labels that operations can be grouped by.
const GROUPINGS = 50;

const chips = new Map();

export function makeChips(changeView) {
  for (const phase of PHASES) {
    const number = make("b");
    const chip = make("button", { type: "button", "data-phase": phase, "aria-pressed": "false" }, icon(phase), make("span", {}, phase), number);
    chip.addEventListener("click", () => {
      if (!choice.phases.delete(phase)) choice.phases.add(phase);
      changeView();
    });
    chips.set(phase, { chip, number });
    $("phases").append(chip);
  }
}

export function showCounts(counts, connection) {
  const isWhole = !choice.text && !choice.project;
  // While the list loads, the daemon already knows the counts.
  const known = isWhole && !connection.isLoaded && connection.phases ? connection.phases : counts;
  for (const [phase, { chip, number }] of chips) {
    const value = known[phase] ?? 0;
    setText(number, format.count(value));
    chip.classList.toggle("none", value === 0);
    setAttribute(chip, "aria-pressed", String(choice.phases.has(phase)));
  }
}

export function showTotals(totals) {
  const parts = [hasFilter() ? `${format.count(totals.operations)} of ${format.count(watches.size)}` : format.count(totals.operations)];
  if (totals.records) parts.push(`${format.short(totals.records)} records`);
  if (totals.rate) parts.push(format.rate(totals.rate));
  const end = totals.end ? new Date(totals.end).toISOString() : null;
  if (end) parts.push(`${totals.unknown ? "longest estimate: " : ""}${format.timeLeft(end)}`);
  if (totals.stale) parts.push(`${format.count(totals.stale)} not up to date`);
  setText($("totals"), parts.join(" · "));
}

export function showEmpty(items, { isLoaded }) {
  const isEmpty = items.length === 0;
  const isUnused = watches.size === 0;
  $("filters").hidden = isUnused && isLoaded;
  $("scroller").hidden = isEmpty;
  $("no-match").hidden = !isEmpty || isUnused;
  $("first-steps").hidden = !isEmpty || !isUnused || !isLoaded;
  $("loading").hidden = !isEmpty || isLoaded;
}

let suggested = null;

export function showGroupings(label) {
  const names = new Set();
  for (const { data } of watches.values()) {
    for (const name in data.labels) names.add(name);
    if (names.size >= GROUPINGS) break;
  }
  if (label) names.add(label);
  const state = [...names].sort().join("\n");
  if (state !== suggested) {
    suggested = state;
    $("group").replaceChildren(new Option("nothing", ""), ...[...names].sort().map((name) => new Option(format.clean(name), name)));
  }
  $("group").value = label;
}

export function showProjects() {
  const names = [...daemon.projects.keys()];
  $("project-field").hidden = names.length < 2;
  if ($("project").options.length === names.length + 1) return;
  $("project").replaceChildren(new Option("all", ""), ...names.map((name) => new Option(format.clean(name), name)));
  $("project").value = choice.project;
}
