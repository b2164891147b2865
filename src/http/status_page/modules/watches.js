// The watches as the daemon last reported them, and the words for their state.

import * as format from "./format.js";

export const PHASES = ["running", "pending", "stalled", "failed", "ended", "gone", "expired", "succeeded"];
// The worst phase first.
const ORDER = ["failed", "stalled", "gone", "ended", "expired", "running", "pending", "succeeded"];
const FINISHED = new Set(["succeeded", "failed", "ended", "gone", "expired"]);
const DAY = 24 * 3600;

export const watches = new Map();

// What all views know about the daemon and its projects.
export const daemon = { isLost: false, groupLabel: "group", projects: new Map(), attention: null };

export const keyOf = (data) => `${data.project}/${data.operationId}`;
export const isFinished = (data) => FINISHED.has(data.phase);
export const rank = (phase) => ORDER.indexOf(phase);

// A snapshot that waited during a load can be older than the page that was loaded.
const isOlder = (data, known) => data.polls < known.polls || (data.polls === known.polls && data.sequence < known.sequence);

export function put(data, isLive) {
  const key = keyOf(data);
  const watch = watches.get(key);
  if (!watch) watches.set(key, { key, data, text: null, name: null, order: null });
  else if (!isLive || !isOlder(data, watch.data)) Object.assign(watch, { data, text: null, name: null, order: null });
}

export const drop = (key) => watches.delete(key);

export const labelsOf = (data) => Object.entries(data.labels ?? {}).map(([name, value]) => `${name}=${value}`);

export function searchText(watch) {
  const { data } = watch;
  watch.text ??= [
    data.operationId, data.project, data.phase, data.status, data.installationId, data.integrationId,
    ...(data.objects ?? []), ...labelsOf(data), data.lastError, data.result, data.stall?.reason,
  ].filter(Boolean).join("\n").toLowerCase();
  return watch.text;
}

// Customer and object, as people name an operation. `label` is the label that names the customer.
export function nameOf(watch, label) {
  if (watch.name?.label === label) return watch.name;
  const { data } = watch;
  const labels = data.labels ?? {};
  const used = [label, daemon.groupLabel, "group", "customer"].find((name) => name && labels[name]);
  const customer = used ? labels[used] : data.installationId ?? null;
  const objects = data.objects?.length ? data.objects.join(", ") : labels.object ?? null;
  watch.name = { label, customer: customer ?? (objects ? null : data.operationId), objects, used };
  return watch.name;
}

export function titleOf(watch) {
  const { customer, objects } = nameOf(watch, daemon.groupLabel);
  return [customer, objects].filter(Boolean).join(" · ");
}

// The labels that the title does not show.
export function otherLabels(watch, label) {
  const name = nameOf(watch, label);
  return Object.entries(watch.data.labels ?? {})
    .filter(([key, value]) => key !== name.used && value !== name.customer && !(key === "object" && value === name.objects))
    .filter(([key]) => key !== "installation")
    .map(([key, value]) => `${key}=${value}`);
}

// Without records, what polls find is not shown.
const UNRECORDED = new Set(["state_not_writable", "state_removed"]);

export const isKeyRejected = (data) => daemon.projects.get(data.project)?.credentialsValid === false && !isFinished(data);

function isUnpolled(data) {
  if (daemon.attention?.some((entry) => UNRECORDED.has(entry.kind))) return true;
  const project = daemon.projects.get(data.project);
  return daemon.isLost || (project !== undefined && (!project.reachable || !project.credentialsValid));
}

// The last poll failed.
export function isFailing(data) {
  if (isFinished(data) || !data.lastError) return false;
  return !data.lastAnswerTime || Date.parse(data.lastAnswerTime) < Date.parse(data.lastPollTime ?? data.lastAnswerTime);
}

// Whether figures that assume progress would mislead. One failed poll is not an outage: the daemon keeps its estimate.
export function isStale(data) {
  if (isFinished(data)) return false;
  const hasEstimate = data.progress?.recordsPerSecond !== undefined || data.progress?.estimatedEndTime !== undefined;
  return isUnpolled(data) || (isFailing(data) && !hasEstimate);
}

export const finishTime = (data) => data.finishTime ?? data.lastAnswerTime ?? data.lastPollTime;
export const isOld = (data) => isFinished(data) && format.secondsSince(finishTime(data)) > DAY;

export function percentOf(data) {
  return data.phase === "succeeded" ? 100 : data.progress?.percent;
}

export function countText(data, unit = " records") {
  const { progress, phase } = data;
  if (!progress) return phase === "pending" || isFinished(data) ? "" : "no count yet";
  const records = format.count(progress.recordsProcessed);
  const total = progress.recordsEstimatedTotal;
  if (isFinished(data) || total === undefined) return `${records}${unit}`;
  return `${records} of ${format.short(total)}${unit}`;
}

export function countTitle(data) {
  const total = data.progress?.recordsEstimatedTotal;
  if (total === undefined) return null;
  const estimate = `estimated total: ${format.count(total)} records`;
  return data.progress.estimateExceeded ? `More than the estimate; ${estimate}` : estimate;
}

export function rateText(data) {
  if (isFinished(data)) return data.durationSeconds === undefined ? "" : `took ${format.duration(data.durationSeconds)}`;
  const value = data.progress?.recordsPerSecond;
  return value === undefined || data.phase !== "running" || isStale(data) ? "" : format.rate(value);
}

export function endText(data) {
  if (isFinished(data)) return finishTime(data) ? format.ago(finishTime(data)) : "";
  if (isStale(data)) return data.lastAnswerTime ? `last seen ${format.ago(data.lastAnswerTime)}` : "not seen yet";
  if (data.phase === "pending") return "not polled yet";
  if (data.phase === "stalled") return data.stall?.since ? `stalled for ${format.span(format.secondsSince(data.stall.since))}` : "no progress";
  if (data.progress?.estimatedEndTime) return format.timeLeft(data.progress.estimatedEndTime);
  return data.progress?.estimateExceeded ? "past its estimate" : "end unknown";
}

export function endTitle(data) {
  if (isFinished(data)) return finishTime(data) ? `Finished: ${format.absolute(finishTime(data))}` : null;
  if (isStale(data)) return data.lastAnswerTime ? `Last answer: ${format.absolute(data.lastAnswerTime)}` : null;
  if (data.stall?.since) return `Stalled since ${format.absolute(data.stall.since)}`;
  const end = data.progress?.estimatedEndTime;
  return end ? `Estimated end: ${format.absolute(end)}` : null;
}

// What is wrong with an operation, in the words of the API.
export function problemOf(data) {
  if (data.phase === "succeeded") return null;
  if (isFinished(data)) {
    const status = data.phase === "ended" || !data.result ? data.status : null;
    return [status && `status ${status}`, data.result ?? data.lastError].filter(Boolean).join(": ");
  }
  // The last error of the operation may have another cause.
  if (isKeyRejected(data)) return "polls are paused: the API key is rejected";
  if (isFailing(data)) return data.lastError;
  return data.phase === "stalled" ? data.stall?.reason ?? "no progress" : null;
}
