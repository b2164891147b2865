// The status page. It is read-only.
//
// The list is loaded once, then updated by the snapshots of the event stream. Rows are updated in place, at most once
// per frame, so that a thousand bars neither flicker nor lose a selection.
"use strict";

const PHASES = ["running", "stalled", "pending", "succeeded", "failed", "ended", "gone", "expired"];
// Phases that need attention come first.
const ATTENTION = ["failed", "stalled", "gone", "ended", "expired", "running", "pending", "succeeded"];
const FINISHED = new Set(["succeeded", "failed", "ended", "gone", "expired"]);
// More rows than this are shown on request only, since each costs layout.
const ROWS = 1000;
// The daemon sends a message at least every 10 s.
const SILENCE = 25000;
const SUGGESTIONS = 300;
// The most labels that operations can be grouped by.
const GROUPINGS = 50;

const $ = (id) => document.getElementById(id);
const watches = new Map();
const dirty = new Set();
const state = {
  text: "", label: "", group: "", sort: "attention", phases: new Set(), limit: ROWS,
  offset: 0, loaded: false, lastHeard: 0, lastTotal: null, lost: false, projects: [], list: null,
};

// ---- formatting ----

const number = new Intl.NumberFormat("en");
const decimal = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clockTime = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const fullTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

const now = () => Date.now() + state.offset;

function span(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = seconds / 3600;
  if (hours < 10) return `${decimal.format(Math.round(hours * 2) / 2)} h`;
  if (hours < 36) return `${Math.round(hours)} h`;
  return `${Math.round(hours / 24)} days`;
}

function timeLeft(seconds) {
  if (seconds < 0) return "past its estimated end";
  if (seconds < 5) return "a few seconds left";
  if (seconds < 55) return `about ${Math.ceil(seconds / 10) * 10} s left`;
  return `about ${span(seconds)} left`;
}

const ago = (time) => {
  const seconds = (now() - Date.parse(time)) / 1000;
  return seconds < 3 ? "just now" : `${span(seconds)} ago`;
};

const plural = (count, one, many = `${one}s`) => `${number.format(count)} ${count === 1 ? one : many}`;

// ---- one operation ----

const keyOf = (data) => `${data.project}\n${data.operationId}`;

function put(data) {
  const key = keyOf(data);
  const watch = watches.get(key);
  if (watch) {
    // A page that arrives late must not replace newer data.
    const before = watch.data;
    if (data.polls < before.polls || (data.polls === before.polls && data.sequence < before.sequence)) return;
    watch.data = data;
    watch.searchText = null;
  } else {
    watches.set(key, { key, data, searchText: null, row: null, fresh: true });
  }
  dirty.add(key);
}

function drop(key) {
  const watch = watches.get(key);
  if (!watch) return;
  watch.row?.root.remove();
  watches.delete(key);
  dirty.add(key);
}

const labelsOf = (data) => Object.entries(data.labels ?? {}).map(([name, value]) => `${name}=${value}`);

function searchTextOf(watch) {
  const data = watch.data;
  watch.searchText ??= [
    data.operationId, data.project, data.phase, data.status, data.installationId, data.integrationId,
    ...(data.objects ?? []), ...labelsOf(data), data.lastError, data.result,
  ].filter(Boolean).join("\n").toLowerCase();
  return watch.searchText;
}

const isFailing = (data) => Boolean(data.lastError) && !FINISHED.has(data.phase);

function endText(data) {
  const progress = data.progress;
  if (FINISHED.has(data.phase)) return data.lastPollTime ? `finished ${ago(data.lastPollTime)}` : "";
  if (data.phase === "pending") return "not polled yet";
  if (data.phase === "stalled") return "no progress";
  if (progress?.estimatedEndTime) return timeLeft((Date.parse(progress.estimatedEndTime) - now()) / 1000);
  if (progress?.estimateExceeded) return "past its estimate";
  return "end unknown";
}

function endTitle(data) {
  if (FINISHED.has(data.phase)) return data.lastPollTime ? fullTime.format(Date.parse(data.lastPollTime)) : "";
  const end = data.progress?.estimatedEndTime;
  return end ? `Estimated end: ${fullTime.format(Date.parse(end))}` : "";
}

function countText(progress, phase) {
  if (!progress) return phase === "pending" ? "" : "no count yet";
  const count = number.format(progress.recordsProcessed);
  const total = progress.recordsEstimatedTotal;
  if (phase === "succeeded" || total === undefined) return `${count} records`;
  if (progress.estimateExceeded) return `${count}, more than the ${number.format(total)} estimated`;
  return `${count} of about ${number.format(total)}`;
}

function build() {
  const root = $("watch-template").content.firstElementChild.cloneNode(true);
  const find = (name) => root.querySelector(name);
  return {
    root, operation: find(".operation"), id: find(".id"), what: find(".what"), labels: find(".labels"), labelText: null,
    phase: find(".phase-text"), bar: find("progress"), count: find(".count"), percent: find(".percent"),
    end: find(".end"), rate: find(".rate"), problem: find(".problem"),
  };
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

function render(watch) {
  const data = watch.data;
  const progress = data.progress;
  watch.row ??= build();
  const row = watch.row;
  setAttribute(row.root, "data-phase", data.phase);
  setAttribute(row.root, "data-id", data.operationId);
  setAttribute(row.root, "data-failing", isFailing(data) ? "" : null);
  setText(row.operation, data.operationId);
  setAttribute(row.id, "title", data.operationId);
  const result = data.phase === "succeeded" ? data.result : null;
  const project = state.projects.length > 1 ? data.project : null;
  const source = data.source && data.source !== "file" ? `source: ${data.source}` : null;
  setText(row.what, [(data.objects ?? []).join(", "), project, source, result].filter(Boolean).join(" · "));
  setAttribute(row.what, "title", row.what.textContent);
  const labels = labelsOf(data);
  if (row.labelText !== labels.join("\n")) {
    row.labelText = labels.join("\n");
    row.labels.replaceChildren(...labels.map((label) => {
      const item = document.createElement("li");
      item.textContent = label;
      item.title = label;
      return item;
    }));
  }
  setText(row.phase, data.phase);

  const percent = data.phase === "succeeded" ? 100 : progress?.percent;
  const counts = data.phase === "running" && progress !== undefined;
  if (percent !== undefined) setAttribute(row.bar, "value", String(percent));
  else setAttribute(row.bar, "value", counts ? null : "0");
  setAttribute(row.bar, "aria-label", `Progress of ${data.operationId}`);
  setText(row.count, countText(progress, data.phase));
  setText(row.percent, percent === undefined ? "" : `${percent === 100 ? "100" : percent.toFixed(1)} %`);

  const rate = progress?.recordsPerSecond;
  setText(row.rate, rate !== undefined && data.phase === "running" ? `${decimal.format(rate)} records/s` : "");
  tick(watch);

  const isBad = FINISHED.has(data.phase) && data.phase !== "succeeded";
  const problem = isFailing(data) ? data.lastError : isBad ? data.result ?? data.lastError : null;
  row.problem.hidden = !problem;
  setText(row.problem, problem ?? "");
}

// Updates texts that depend on the current time.
function tick(watch) {
  setText(watch.row.end, endText(watch.data));
  setAttribute(watch.row.end, "title", endTitle(watch.data) || null);
}

// ---- filter and order ----

function isMatching(watch) {
  const data = watch.data;
  if (state.phases.size && !state.phases.has(data.phase)) return false;
  if (state.label && !labelsOf(data).some((label) => label.toLowerCase().startsWith(state.label))) return false;
  return state.text.split(/\s+/).every((word) => searchTextOf(watch).includes(word));
}

const last = (value, missing) => value ?? missing;
const RANKS = {
  attention: (data) => ATTENTION.indexOf(data.phase) - (isFailing(data) ? 0.5 : 0),
  progress: (data) => (FINISHED.has(data.phase) ? 200 : 0) - last(data.progress?.percent, -1),
  end: (data) => (FINISHED.has(data.phase) ? 9e15 : Date.parse(data.progress?.estimatedEndTime) || 8e15),
  rate: (data) => (data.phase === "running" ? -last(data.progress?.recordsPerSecond, -1) : 2),
  newest: (data) => -(Date.parse(data.createTime) || 0),
  id: () => 0,
};

function chosen() {
  const rank = RANKS[state.sort];
  const matching = [];
  for (const watch of watches.values()) {
    if (isMatching(watch)) matching.push([rank(watch.data), watch]);
  }
  matching.sort(([a, x], [b, y]) => a - b || (x.key < y.key ? -1 : 1));
  return matching.map(([, watch]) => watch);
}

// ---- groups ----

const heads = new Map();

const groupOf = (watch) => watch.data.labels?.[state.group] ?? null;

// Puts the operations of each group together. The first operation of a group determines its place; operations without one
// come last.
function gather(all) {
  const groups = new Map();
  for (const watch of all) {
    const name = groupOf(watch);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(watch);
  }
  const rest = groups.get(null);
  if (rest && groups.delete(null)) groups.set(null, rest);
  return groups;
}

function headOf(name, members) {
  let head = heads.get(name);
  if (!head) {
    const root = $("group-template").content.firstElementChild.cloneNode(true);
    head = { root, name: root.querySelector(".group-name"), counts: root.querySelector(".group-counts") };
    heads.set(name, head);
  }
  setText(head.name, name ?? `No label ${state.group}`);
  const counts = Object.fromEntries(PHASES.map((phase) => [phase, 0]));
  for (const { data } of members) counts[data.phase] += 1;
  const parts = PHASES.filter((phase) => counts[phase]).map((phase) => `${number.format(counts[phase])} ${phase}`);
  setText(head.counts, parts.join(", "));
  return head.root;
}

function forgetHeads() {
  for (const head of heads.values()) head.root.remove();
  heads.clear();
}

// Orders the rows in one pass from the top; rows in their place are not touched.
function arrange() {
  let all = chosen();
  const groups = state.group ? gather(all) : null;
  if (groups) all = [...groups.values()].flat();
  const shown = all.slice(0, state.limit);
  const list = $("watches");
  const keep = new Set(shown.map((watch) => watch.key));
  for (const watch of watches.values()) {
    if (watch.row?.root.isConnected && !keep.has(watch.key)) watch.row.root.remove();
  }
  const names = new Set(groups ? shown.map(groupOf) : []);
  for (const [name, head] of heads) {
    if (!names.has(name)) {
      head.root.remove();
      heads.delete(name);
    }
  }
  let place = list.firstElementChild;
  const add = (root) => {
    if (root === place) place = place.nextElementSibling;
    else list.insertBefore(root, place);
  };
  let group;
  for (const watch of shown) {
    if (groups && groupOf(watch) !== group) {
      group = groupOf(watch);
      add(headOf(group, groups.get(group)));
    }
    if (!watch.row) render(watch);
    add(watch.row.root);
  }
  $("more").hidden = all.length <= shown.length;
  setText($("more-button"), `Show ${number.format(Math.min(ROWS, all.length - shown.length))} more`);
  const isFiltered = Boolean(state.text || state.label || state.phases.size);
  setText($("shown"), isFiltered ? `${number.format(all.length)} of ${number.format(watches.size)}` : number.format(watches.size));
  const empty = $("empty");
  empty.hidden = all.length > 0 || !state.loaded;
  setText(empty, isFiltered && watches.size
    ? "No operation matches the filters."
    : "Nothing is watched yet.\nAdd operation IDs to the watch list, one per line. They appear here within a second.");
}

// ---- totals ----

const chips = new Map();
const bands = new Map();

function makeChips() {
  for (const phase of PHASES) {
    const chip = document.createElement("button");
    chip.type = "button";
    chip.dataset.phase = phase;
    chip.setAttribute("aria-pressed", "false");
    const dot = document.createElement("span");
    dot.className = "dot";
    dot.setAttribute("aria-hidden", "true");
    const count = document.createElement("b");
    chip.append(dot, ` ${phase} `, count);
    chip.addEventListener("click", () => {
      if (!state.phases.delete(phase)) state.phases.add(phase);
      refilter();
    });
    $("phases").append(chip);
    chips.set(phase, { chip, count });
    const band = document.createElement("span");
    band.dataset.phase = phase;
    band.hidden = true;
    bands.set(phase, band);
  }
  // Succeeded first, pending last.
  $("bands").append(...["succeeded", "running", "stalled", "failed", "ended", "gone", "expired", "pending"].map((phase) => bands.get(phase)));
}

function summarize() {
  const counts = Object.fromEntries(PHASES.map((phase) => [phase, 0]));
  let records = 0;
  let rate = 0;
  let end = 0;
  let unknown = 0;
  let failing = 0;
  for (const { data } of watches.values()) {
    counts[data.phase] += 1;
    records += data.progress?.recordsProcessed ?? 0;
    if (isFailing(data)) failing += 1;
    if (FINISHED.has(data.phase)) continue;
    if (data.phase === "running") rate += data.progress?.recordsPerSecond ?? 0;
    const estimate = Date.parse(data.progress?.estimatedEndTime);
    if (estimate && data.phase === "running") end = Math.max(end, estimate);
    else unknown += 1;
  }
  for (const [phase, count] of Object.entries(counts)) {
    const { chip, count: text } = chips.get(phase);
    setText(text, number.format(count));
    chip.classList.toggle("none", count === 0);
    setAttribute(chip, "aria-pressed", String(state.phases.has(phase)));
    const band = bands.get(phase);
    band.hidden = count === 0;
    band.style.flexGrow = String(count);
  }
  const total = watches.size;
  const open = counts.running + counts.stalled + counts.pending;
  const bad = counts.failed + counts.stalled + counts.gone + counts.ended + counts.expired;
  const parts = [];
  if (total === 0) parts.push(state.loaded ? "No operations" : "Loading…");
  else if (open === 0 && bad === 0) parts.push(total === 1 ? "The operation succeeded" : `All ${number.format(total)} operations succeeded`);
  else {
    if (counts.running) parts.push(`${number.format(counts.running)} running`);
    else if (counts.pending) parts.push(`${number.format(counts.pending)} pending`);
    else if (!open) parts.push(`${plural(total, "operation")} finished`);
    if (counts.failed) parts.push(`${number.format(counts.failed)} failed`);
    if (counts.stalled) parts.push(`${number.format(counts.stalled)} stalled`);
  }
  setText($("headline"), parts.join(", "));
  const details = [];
  if (records) details.push(`${records < 1e6 ? number.format(records) : compact.format(records)} records processed`);
  if (rate) details.push(`${decimal.format(rate)} records/s`);
  if (end && end < now()) details.push("past the estimated end");
  else if (end) details.push((unknown ? "longest estimate: " : "") + timeLeft((end - now()) / 1000));
  if (failing) details.push(`${number.format(failing)} cannot be polled now`);
  setText($("headline-detail"), details.join(" · "));
  const title = bad ? `${number.format(bad)} need attention – backfill-watch` : open ? `${number.format(open)} open – backfill-watch` : "backfill-watch";
  if (document.title !== title) document.title = title;
}

// ---- label suggestions ----

let suggested = "";

function suggest() {
  const all = new Set();
  for (const { data } of watches.values()) for (const label of labelsOf(data)) all.add(label);
  const labels = [...all].sort().slice(0, SUGGESTIONS);
  if (suggested === labels.join("\n")) return;
  suggested = labels.join("\n");
  $("label-list").replaceChildren(...labels.map((label) => {
    const option = document.createElement("option");
    option.value = label;
    return option;
  }));
  suggestGroupings(all);
}

function suggestGroupings(labels) {
  const names = new Set([...labels].map((label) => label.slice(0, label.indexOf("="))));
  if (state.group) names.add(state.group);
  const options = [...names].sort().slice(0, GROUPINGS).map((name) => new Option(name, name));
  $("group").replaceChildren(new Option("Nothing", ""), ...options);
  $("group").value = state.group;
}

// ---- rendering, at most once per frame ----

let frame = 0;
let mustArrange = false;

function scheduleRender(arranging) {
  mustArrange ||= arranging;
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    for (const key of dirty) {
      const watch = watches.get(key);
      if (watch?.row) render(watch);
    }
    const changed = dirty.size > 0;
    dirty.clear();
    // Moving rows would drop the selection, so it is delayed.
    const selection = getSelection();
    const isSelecting = !selection.isCollapsed && $("watches").contains(selection.anchorNode);
    if ((mustArrange || changed) && !isSelecting) {
      mustArrange = false;
      arrange();
    }
    if (changed) suggest();
    summarize();
  });
}

function refilter() {
  state.limit = ROWS;
  const query = new URLSearchParams();
  if (state.text) query.set("text", state.text);
  if (state.label) query.set("label", state.label);
  if (state.group) query.set("group", state.group);
  if (state.sort !== "attention") query.set("sort", state.sort);
  for (const phase of state.phases) query.append("phase", phase);
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
  scheduleRender(true);
}

// ---- data from the daemon ----

async function getJson(path) {
  const response = await fetch(path, { cache: "no-store" });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

let loading = null;
let waiting = [];

// Loads the whole list; snapshots that arrive during the load are applied afterwards.
function load() {
  loading ??= (async () => {
    const seen = new Set();
    let after = "";
    do {
      const page = await getJson(`api/operations${after && `?after=${encodeURIComponent(after)}`}`);
      for (const data of page.operations) {
        seen.add(keyOf(data));
        put(data);
      }
      after = page.next;
    } while (after);
    for (const key of [...watches.keys()]) if (!seen.has(key)) drop(key);
    state.loaded = true;
  })().catch((error) => {
    console.debug(error);
    setTimeout(load, 3000);
  }).finally(() => {
    loading = null;
    for (const snapshot of waiting.splice(0)) take(snapshot);
    scheduleRender(true);
  });
}

let lastReload = 0;

function take(snapshot) {
  for (const gone of snapshot.removed) drop(keyOf(gone));
  for (const data of snapshot.operations) put(data);
  state.projects = snapshot.projects;
  state.list = snapshot.watchList;
  notices();
  const total = Object.values(snapshot.phases).reduce((sum, count) => sum + count, 0);
  // A snapshot was missed, or one snapshot could not carry all changes.
  if (total !== watches.size && total === state.lastTotal && Date.now() - lastReload > 5000) {
    lastReload = Date.now();
    load();
  }
  state.lastTotal = total;
  scheduleRender(false);
}

let stream = null;
let retry = 0;

function connect() {
  stream?.close();
  clearTimeout(retry);
  state.lastHeard = Date.now();
  stream = new EventSource("api/events/stream");
  stream.addEventListener("open", () => {
    markAlive();
    load();
    loadHooks();
  });
  stream.addEventListener("snapshot", (message) => {
    const snapshot = JSON.parse(message.data);
    state.offset = Date.parse(snapshot.time) - Date.now();
    markAlive();
    if (loading) waiting.push(snapshot);
    else take(snapshot);
  });
  stream.addEventListener("error", () => {
    markLost();
    // The browser does not retry a refused stream.
    if (stream.readyState === EventSource.CLOSED) retry = setTimeout(connect, 3000);
  });
}

function markAlive() {
  state.lastHeard = Date.now();
  if (state.lost || $("connection").dataset.state !== "live") {
    state.lost = false;
    document.body.classList.remove("lost");
    $("connection").dataset.state = "live";
    setText($("connection-text"), "Live");
    notices();
  }
}

function markLost() {
  if (state.lost) return;
  state.lost = true;
  state.lostSince = state.lastHeard;
  document.body.classList.add("lost");
  $("connection").dataset.state = "lost";
  setText($("connection-text"), "Connection lost");
  notices();
}

let noticed = "";

function notices() {
  const texts = [];
  if (state.lost) texts.push(`Connection to the daemon lost. The data is from ${clockTime.format(state.lostSince)}. Reconnecting…`);
  for (const project of state.projects) {
    if (!project.credentialsValid) texts.push(`The API rejects the key of project ${project.name}. Replace the key; a key file is retried automatically, a systemd credential or environment variable needs a restart.`);
    else if (!project.reachable) texts.push(`The API is unreachable for project ${project.name}. Retrying.`);
  }
  const list = state.list;
  if (list && !list.readable) texts.push("The watch list cannot be read; the last good list stays active. The log has the reason.");
  if (list?.rejectedLines) texts.push(`${plural(list.rejectedLines, "line")} of the watch list ${list.rejectedLines === 1 ? "is" : "are"} rejected and skipped. To see each line and its error: backfill-watch check`);
  if (noticed === texts.join("\n")) return;
  noticed = texts.join("\n");
  $("notices").replaceChildren(...texts.map((text) => {
    const notice = document.createElement("p");
    notice.className = "notice";
    const dot = document.createElement("span");
    dot.className = "dot";
    dot.setAttribute("aria-hidden", "true");
    const message = document.createElement("span");
    message.textContent = text;
    notice.append(dot, message);
    return notice;
  }));
}

// ---- webhooks ----

const hooks = new Map();

function hookState(hook) {
  if (hook.state === "disabled") return ["failed", "disabled until a reload"];
  const failing = hook.lastErrorTime && (!hook.lastSuccessTime || Date.parse(hook.lastErrorTime) > Date.parse(hook.lastSuccessTime));
  if (failing && hook.state === "paused") return ["failed", "paused"];
  if (failing && hook.backlog) return ["failed", "failing"];
  if (hook.deadLetters) return ["stalled", "dead letters"];
  if (failing) return ["stalled", "last attempt failed"];
  if (hook.backlog) return ["running", "delivering"];
  return ["succeeded", "healthy"];
}

function renderHook(hook) {
  let row = hooks.get(hook.name);
  if (!row) {
    const root = document.createElement("li");
    const part = (tag, name) => Object.assign(document.createElement(tag), { className: name });
    const name = part("p", "name");
    const dot = part("span", "dot");
    dot.setAttribute("aria-hidden", "true");
    row = { root, title: document.createElement("span"), state: part("span", "state"), facts: part("p", "facts"), error: part("p", "error") };
    name.append(dot, row.title, row.state);
    root.append(name, row.facts, row.error);
    hooks.set(hook.name, row);
    $("hook-list").append(root);
  }
  const [phase, words] = hookState(hook);
  setAttribute(row.root, "data-phase", phase);
  setText(row.title, hook.name);
  setText(row.state, words);
  const facts = [`${number.format(hook.backlog)} waiting`];
  if (hook.deadLetters) facts.push(plural(hook.deadLetters, "dead letter"));
  facts.push(hook.lastSuccessTime ? `last delivered ${ago(hook.lastSuccessTime)}` : "nothing delivered yet");
  setText(row.facts, facts.join(" · "));
  setText(row.error, phase === "succeeded" || phase === "running" || !hook.lastError ? "" : hook.lastError);
}

async function loadHooks() {
  try {
    const { endpoints } = await getJson("api/webhooks");
    const names = new Set(endpoints.map((hook) => hook.name));
    for (const [name, row] of hooks) {
      if (!names.has(name)) {
        row.root.remove();
        hooks.delete(name);
      }
    }
    endpoints.forEach(renderHook);
    $("hooks").hidden = endpoints.length === 0;
  } catch (error) {
    console.debug(error);
  }
}

// ---- start ----

function start() {
  const query = new URLSearchParams(location.search);
  state.text = query.get("text") ?? "";
  state.label = (query.get("label") ?? "").toLowerCase();
  state.group = query.get("group") ?? "";
  state.sort = query.get("sort") in RANKS ? query.get("sort") : "attention";
  state.phases = new Set(query.getAll("phase").filter((phase) => PHASES.includes(phase)));
  $("text").value = state.text;
  $("label").value = state.label;
  suggestGroupings(new Set());
  $("sort").value = state.sort;
  makeChips();
  $("text").addEventListener("input", (event) => {
    state.text = event.target.value.trim().toLowerCase();
    refilter();
  });
  $("label").addEventListener("input", (event) => {
    state.label = event.target.value.trim().toLowerCase();
    refilter();
  });
  $("group").addEventListener("change", (event) => {
    state.group = event.target.value;
    forgetHeads();
    refilter();
  });
  $("sort").addEventListener("change", (event) => {
    state.sort = event.target.value;
    refilter();
  });
  $("more-button").addEventListener("click", () => {
    state.limit += ROWS;
    scheduleRender(true);
  });
  connect();
  setInterval(() => {
    if (Date.now() - state.lastHeard > SILENCE) {
      markLost();
      connect();
    }
  }, 5000);
  setInterval(() => {
    if (!state.lost) loadHooks();
  }, 5000);
  setInterval(() => {
    for (const watch of watches.values()) if (watch.row?.root.isConnected) tick(watch);
    summarize();
  }, 5000);
}

start();
