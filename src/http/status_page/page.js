// The status page. It is read-only.
//
// Modules: `connection` reads the daemon, `watches` has what it said, `view` chooses and orders rows, `list` and `rows`
// show those in sight, `detail` shows one operation, `attention` and `services` show what is wrong.

import { listenToAttention, showAttention, showState, tickAttention } from "./modules/attention.js";
import { Connection, connectionText, pages } from "./modules/connection.js";
import { Detail } from "./modules/detail.js";
import { $, listenForCopies, setAttribute } from "./modules/dom.js";
import { List } from "./modules/list.js";
import { showServices } from "./modules/services.js";
import { makeChips, showCounts, showEmpty, showGroupings, showProjects, showTotals } from "./modules/summary.js";
import { SORTS, build, choice, forgetOrder, hasFilter, toggle } from "./modules/view.js";
import { PHASES, daemon, watches } from "./modules/watches.js";

const TICK = 5000;
const SERVICES_INTERVAL = 10000;
const GROUPS_INTERVAL = 60000;
// A large list is put in order again after this many times of what that took: at most 1 % of a processor.
const REST = 100;
const LARGE = 1000;

const groups = { byName: new Map(), hasAny: false };
const detail = new Detail();
let list = null;
let connection = null;

// The label that rows are grouped by: the reader's choice, otherwise that of the daemon's groups if there are any.
function grouping() {
  if (choice.group !== null) return choice.group;
  // Before the groups are read, their operations show that there are some.
  groups.hasAny ||= hasGroupLabel();
  return groups.hasAny ? daemon.groupLabel : "";
}

function hasGroupLabel() {
  for (const { data } of watches.values()) if (data.labels?.[daemon.groupLabel] !== undefined) return true;
  return false;
}

// ---- drawing, at most once per frame ----

let isListDue = true;
let frame = 0;
let cost = 0;
let lastTime = 0;
let timer = 0;

function schedule(what, isUrgent = false) {
  isListDue ||= what === "list";
  if (isUrgent) lastTime = -Infinity;
  frame ||= requestAnimationFrame(draw);
}

function draw() {
  frame = 0;
  list.marked = detail.key;
  const wait = watches.size > LARGE ? lastTime + cost * REST - performance.now() : 0;
  if (isListDue && wait <= 0) {
    isListDue = false;
    const start = performance.now();
    arrange();
    lastTime = performance.now();
    cost = lastTime - start;
  } else {
    list.render();
    if (isListDue) {
      clearTimeout(timer);
      timer = setTimeout(() => schedule("list"), wait);
    }
  }
  detail.refresh();
  showState(connection, detail.title);
}

function arrange() {
  const label = grouping();
  const view = build(label);
  for (const item of view.items) {
    if (item.kind === "group") Object.assign(item, groups.byName.get(`${item.label}\n${item.name}`));
  }
  list.setItems(view.items);
  if (view.items.length && !performance.getEntriesByName("first-rows").length) performance.mark("first-rows");
  setAttribute($("rows"), "aria-rowcount", view.items.length + 1);
  showCounts(view.counts, connection);
  showTotals(view.totals);
  showEmpty(view.items, connection);
  showGroupings(label);
  showProjects();
  showAttention();
}

// ---- the address ----

function readAddress() {
  const query = new URLSearchParams(location.search);
  choice.text = query.get("q") ?? "";
  choice.phases = new Set(query.getAll("phase").flatMap((value) => value.split(",")).filter((phase) => PHASES.includes(phase)));
  choice.project = query.get("project") ?? "";
  choice.group = query.get("group");
  choice.sort = SORTS.includes(query.get("sort")) ? query.get("sort") : SORTS[0];
  $("search").value = choice.text;
  $("sort").value = choice.sort;
  $("project").value = choice.project;
}

function address(operation = detail.key) {
  const query = new URLSearchParams();
  if (choice.text) query.set("q", choice.text);
  for (const phase of choice.phases) query.append("phase", phase);
  if (choice.project) query.set("project", choice.project);
  if (choice.group !== null) query.set("group", choice.group);
  if (choice.sort !== SORTS[0]) query.set("sort", choice.sort);
  if (operation) query.set("operation", operation);
  return query.size ? `?${query}` : location.pathname;
}

function changeView() {
  history.replaceState(history.state, "", address());
  $("scroller").scrollTop = 0;
  forgetOrder();
  schedule("list", true);
}

// ---- the detail view ----

function openDetail(key, isNew = true) {
  if (isNew && key !== detail.key) {
    const state = { fromList: detail.key === null || history.state?.fromList === true };
    if (detail.key === null) history.pushState(state, "", address(key));
    else history.replaceState(state, "", address(key));
  }
  document.body.classList.add("has-detail");
  $("detail").hidden = false;
  detail.open(key);
  showAttention();
  $("detail-body").scrollTop = 0;
  $("detail").scrollTop = 0;
  $("detail-title").focus({ preventScroll: true });
  schedule("time");
}

function hideDetail() {
  const key = detail.key;
  detail.close();
  document.body.classList.remove("has-detail");
  $("detail").hidden = true;
  showAttention();
  schedule("time");
  if (key && !list.focus(key)) $("search").focus();
}

function closeDetail() {
  if (detail.key === null) return;
  if (history.state?.fromList) history.back();
  else {
    history.pushState(null, "", address(null));
    hideDetail();
  }
}

function openFromAddress() {
  const key = new URLSearchParams(location.search).get("operation");
  if (key) openDetail(key, false);
  else if (detail.key !== null) hideDetail();
}

// ---- keys and controls ----

function act(item, isOpen) {
  if (item.kind === "watch") {
    openDetail(item.key);
    return;
  }
  if (item.kind === "heading") return;
  toggle(item.key, isOpen);
  schedule("list", true);
}

function clearFilters() {
  Object.assign(choice, { text: "", project: "", phases: new Set() });
  $("search").value = "";
  $("project").value = "";
  changeView();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isTyping = event.target.matches("input, select, textarea");
  if (event.key === "/" && !isTyping) {
    event.preventDefault();
    $("search").focus();
    $("search").select();
  } else if (event.key === "Escape") {
    if (event.target === $("search") && choice.text) {
      $("search").value = "";
      choice.text = "";
      changeView();
    } else if (detail.key !== null) closeDetail();
    else if (hasFilter()) clearFilters();
    else if (isTyping) event.target.blur();
  } else if (event.key === "ArrowDown" ? [$("search"), document.body].includes(event.target) : event.key === "Enter" && event.target === $("search")) {
    event.preventDefault();
    list.focus(event.target === document.body ? undefined : list.items[0]?.key);
  }
}

function listen() {
  $("search").addEventListener("input", (event) => {
    choice.text = event.target.value.trim();
    changeView();
  });
  for (const name of ["group", "sort", "project"]) {
    $(name).addEventListener("change", (event) => {
      choice[name] = event.target.value;
      changeView();
    });
  }
  for (const button of document.querySelectorAll(".clear-filters")) button.addEventListener("click", clearFilters);
  $("options-toggle").addEventListener("click", () => {
    const isOpen = $("filters").classList.toggle("open");
    setAttribute($("options-toggle"), "aria-expanded", String(isOpen));
  });
  $("close").addEventListener("click", closeDetail);
  document.addEventListener("keydown", onKey);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-open]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    openDetail(link.dataset.open);
  });
  addEventListener("popstate", () => {
    readAddress();
    schedule("list", true);
    openFromAddress();
  });
  $("services").addEventListener("toggle", showServices);
  matchMedia("(max-width: 40rem)").addEventListener("change", () => schedule("list", true));
}

// ---- data ----

async function readGroups() {
  const byName = new Map();
  let label = null;
  try {
    for await (const page of pages("api/groups", 1000)) {
      for (const group of page.groups) {
        label ??= group.label;
        // Several projects can have a group of this name.
        const { awaited = [], missing = [] } = byName.get(`${group.label}\n${group.group}`) ?? {};
        byName.set(`${group.label}\n${group.group}`, {
          awaited: awaited.concat(group.awaited ?? []), missing: missing.concat(group.missing ?? []),
        });
      }
    }
  } catch {
    return;
  }
  const isFirst = groups.hasAny !== byName.size > 0;
  groups.byName = byName;
  groups.hasAny = byName.size > 0;
  if (label !== null && label !== daemon.groupLabel) {
    daemon.groupLabel = label;
    forgetOrder();
  }
  schedule("list", isFirst);
}

function onChange(what) {
  if (what === "attention") showAttention();
  else if (what === "daemon") connectionText(connection);
  else if (what === "live") {
    readGroups();
    showServices();
  }
  document.body.classList.toggle("lost", daemon.isLost);
  if (what === "loaded") schedule("list", true);
  else schedule(what === "list" ? "list" : "time");
}

const isSeen = () => document.visibilityState === "visible" && !daemon.isLost;

function start() {
  makeChips(changeView);
  readAddress();
  list = new List($("scroller"), $("body"), act);
  listen();
  listenForCopies();
  listenToAttention();
  connection = new Connection((what) => queueMicrotask(() => onChange(what)));
  openFromAddress();
  setInterval(() => {
    if (document.visibilityState !== "visible") return;
    tickAttention();
    schedule("time");
  }, TICK);
  setInterval(() => isSeen() && showServices(), SERVICES_INTERVAL);
  setInterval(() => isSeen() && readGroups(), GROUPS_INTERVAL);
}

start();
