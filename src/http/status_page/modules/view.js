// Which rows are shown, in which order: filters, sort, groups and folds.

import { PHASES, daemon, isFinished, isOld, isStale, nameOf, percentOf, rank, searchText, watches, finishTime } from "./watches.js";

// What the reader chose; the address of the page has the same. `group` is null until chosen.
export const choice = { text: "", phases: new Set(), project: "", group: null, sort: "attention" };

export const SORTS = ["attention", "end", "progress", "rate", "newest", "name"];
const open = new Set();
const OLD = "old";
const OLD_GROUPS = "old groups";

export function toggle(key, isOpen = !open.has(key)) {
  if (isOpen) open.add(key);
  else open.delete(key);
}

export const hasFilter = () => Boolean(choice.text || choice.project || choice.phases.size);

const time = (text) => Date.parse(text) || 0;
const last = (data) => (isFinished(data) ? 9e15 : 0);
const RANKS = {
  // Of the finished ones, the latest first.
  attention: (data) => rank(data.phase) - (isStale(data) ? 0.5 : 0) - (isFinished(data) ? time(finishTime(data)) / 1e14 : 0),
  end: (data) => last(data) + (time(data.progress?.estimatedEndTime) || 8e15),
  progress: (data) => last(data) - (percentOf(data) ?? -1),
  rate: (data) => (data.phase === "running" ? -(data.progress?.recordsPerSecond ?? 0) : 1),
  newest: (data) => -time(data.createTime),
  name: () => 0,
};

const emptyCounts = () => Object.fromEntries(PHASES.map((phase) => [phase, 0]));

// Everything that the page shows of all watches, in one pass.
export function build(groupLabel) {
  const words = choice.text.toLowerCase().split(/\s+/).filter(Boolean);
  const counts = emptyCounts();
  const found = [];
  for (const watch of watches.values()) {
    const { data } = watch;
    if (choice.project && data.project !== choice.project) continue;
    if (words.length && !words.every((word) => searchText(watch).includes(word))) continue;
    counts[data.phase] += 1;
    if (choice.phases.size && !choice.phases.has(data.phase)) continue;
    found.push(watch);
  }
  const rankOf = RANKS[choice.sort];
  for (const watch of found) {
    watch.rank = rankOf(watch.data);
    watch.order ??= orderOf(watch, groupLabel);
  }
  found.sort(compare);
  const items = groupLabel ? grouped(found, groupLabel) : plain(found, 1);
  return { items, counts, totals: totalsOf(found) };
}

const compare = (one, other) => one.rank - other.rank || (one.order < other.order ? -1 : one.order > other.order ? 1 : 0);

function orderOf(watch, label) {
  const { customer, objects } = nameOf(watch, label || daemon.groupLabel);
  return sortable(`${customer ?? ""}\n${objects ?? ""}\n${watch.key}`);
}

// `customer-2` comes before `customer-10`.
const sortable = (name) => name.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(12, "0"));

export function forgetOrder() {
  for (const watch of watches.values()) watch.order = null;
}

export function totalsOf(found) {
  const totals = { operations: found.length, records: 0, rate: 0, end: 0, unfinished: 0, unknown: 0, stale: 0, seen: 0 };
  for (const { data } of found) {
    totals.records += data.progress?.recordsProcessed ?? 0;
    if (isFinished(data)) continue;
    totals.unfinished += 1;
    if (isStale(data)) {
      totals.stale += 1;
      totals.seen = Math.max(totals.seen, time(data.lastAnswerTime));
      continue;
    }
    const end = data.phase === "running" ? time(data.progress?.estimatedEndTime) : 0;
    if (data.phase === "running") totals.rate += data.progress?.recordsPerSecond ?? 0;
    if (end) totals.end = Math.max(totals.end, end);
    else totals.unknown += 1;
  }
  return totals;
}

// Finished operations of the days before are folded, unless the reader asked for them.
function plain(found, level) {
  const isFolding = !hasFilter();
  const shown = isFolding ? found.filter(({ data }) => !isOld(data)) : found;
  const items = shown.map((watch, index) => ({ kind: "watch", key: watch.key, watch, level, position: index + 1, size: shown.length }));
  const folded = found.length - shown.length;
  if (folded > 0) addFold(items, folded, level, () => found.filter(({ data }) => isOld(data)));
  return items;
}

function addFold(items, size, level, hidden) {
  const isOpen = open.has(OLD);
  items.push({ kind: "fold", key: OLD, size, level, isOpen });
  if (!isOpen) return;
  hidden().forEach((watch, index) => {
    items.push({ kind: "watch", key: watch.key, watch, level: level + 1, position: index + 1, size });
  });
}

function grouped(found, label) {
  const groups = new Map();
  const rest = [];
  for (const watch of found) {
    const name = watch.data.labels?.[label];
    if (name === undefined) {
      rest.push(watch);
      continue;
    }
    const group = groups.get(name);
    if (group) group.members.push(watch);
    else groups.set(name, { kind: "group", key: `group\n${name}`, name, label, members: [watch], level: 1 });
  }
  const all = [...groups.values()];
  for (const group of all) summarize(group);
  if (choice.sort === "name") all.sort((one, other) => (one.order < other.order ? -1 : 1));
  const isFolding = !hasFilter();
  const old = isFolding ? all.filter((group) => group.isOld) : [];
  const shown = old.length ? all.filter((group) => !group.isOld) : all;
  const items = [];
  addGroups(items, shown);
  if (old.length) {
    const isOpen = open.has(OLD_GROUPS);
    items.push({ kind: "fold", key: OLD_GROUPS, size: old.length, isGroups: true, level: 1, isOpen });
    if (isOpen) addGroups(items, old);
  }
  if (rest.length && all.length) items.push({ kind: "heading", key: "rest", text: `Without the label ${label}`, level: 1 });
  items.push(...plain(rest, 1));
  return items;
}

function addGroups(items, groups) {
  groups.forEach((group, index) => {
    group.position = index + 1;
    group.size = groups.length;
    group.isOpen = open.has(group.key);
    items.push(group);
    if (!group.isOpen) return;
    group.members.forEach((watch, place) => {
      items.push({ kind: "watch", key: watch.key, watch, level: 2, position: place + 1, size: group.members.length, label: group.label });
    });
  });
}

// The worst phase, the share that is done, and the latest end of a group.
function summarize(group) {
  const counts = emptyCounts();
  let worst = group.members[0].data.phase;
  let records = 0;
  let expected = 0;
  let shares = 0;
  let isKnown = true;
  let latest = 0;
  group.isOld = true;
  group.order = sortable(group.name);
  for (const { data } of group.members) {
    counts[data.phase] += 1;
    if (rank(data.phase) < rank(worst)) worst = data.phase;
    const done = data.progress?.recordsProcessed ?? 0;
    records += done;
    if (isFinished(data)) {
      expected += done;
      shares += 1;
      latest = Math.max(latest, time(finishTime(data)));
    } else {
      const total = data.progress?.recordsEstimatedTotal;
      if (total === undefined) isKnown = false;
      else expected += Math.max(total, done);
      shares += (percentOf(data) ?? 0) / 100;
    }
    if (group.isOld && !isOld(data)) group.isOld = false;
  }
  const isDone = group.members.every(({ data }) => isFinished(data));
  // Without all estimates, the share of the operations.
  const share = isKnown && expected > 0 ? records / expected : shares / group.members.length;
  const percent = isDone ? 100 : isKnown || shares > 0 ? Math.min(99.9, share * 100) : undefined;
  Object.assign(group, { counts, worst, records, latest, isDone, percent, totals: totalsOf(group.members) });
}
