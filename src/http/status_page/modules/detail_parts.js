// The sections of the detail view.

import { command, isolated, make, timeElement } from "./dom.js";
import * as format from "./format.js";
import { finishTime, isFailing, isFinished, isKeyRejected, labelsOf } from "./watches.js";

const LISTED_EVENTS = 200;

export const section = (title, ...children) => make("section", { class: "part" }, make("h3", {}, title), ...children);

export function missing(problem, project, id) {
  const texts = {
    unknown: ["No such operation is watched", "It may have been removed from the watch list, or the address is wrong. Check the ID and the project."],
    ambiguous: ["Several projects watch an operation with this ID", "Add the project to the address: ?operation=PROJECT/ID."],
    unread: ["The operation cannot be read now", "The page tries again."],
  }[problem];
  if (!texts) return make("p", { class: "hint" }, "Loading…");
  return make("div", { class: "missing" },
    make("p", { class: "missing-title" }, texts[0]),
    make("p", {}, isolated(id, { class: "id" }), project === null ? "" : " in project ", project === null ? "" : isolated(project)),
    make("p", { class: "hint" }, texts[1]));
}

const moment = (time, words = format.ago(time)) => timeElement(`${format.absolute(time)} (${words})`, time, time);

export function facts(data) {
  const rows = [];
  const add = (name, value, isText = true) => {
    if (value !== undefined && value !== null && value !== "") rows.push(make("div", {}, make("dt", {}, name), make("dd", {}, isText ? isolated(value) : value)));
  };
  add("Status", data.status);
  add("Result", data.result);
  add("Created", data.createTime && moment(data.createTime), false);
  if (isFinished(data) && finishTime(data)) add("Finished", moment(finishTime(data)), false);
  if (data.durationSeconds !== undefined) add("Duration", format.duration(data.durationSeconds));
  if (!isFinished(data)) {
    add("Deadline", data.deadline && moment(data.deadline, Date.parse(data.deadline) < format.now() ? format.ago(data.deadline) : format.until(data.deadline)), false);
    add("Last poll", data.lastPollTime ? moment(data.lastPollTime) : "none yet", !data.lastPollTime);
    add("Last answer", data.lastAnswerTime ? moment(data.lastAnswerTime) : "none yet", !data.lastAnswerTime);
    const next = data.nextPollTime && moment(data.nextPollTime, format.until(data.nextPollTime));
    add("Next poll", isKeyRejected(data) ? "when the API key is accepted" : next, false);
  } else {
    add("Deadline", data.deadline && moment(data.deadline), false);
    add("Last poll", data.lastPollTime && moment(data.lastPollTime), false);
  }
  add("Polls", data.polls === undefined ? null : format.count(data.polls));
  add(isFailing(data) ? "Last error" : "Last error, since recovered", isFinished(data) && data.phase !== "gone" && data.phase !== "expired" ? null : data.lastError);
  if (data.stall) add("Stalled", `${data.stall.since ? `since ${format.absolute(data.stall.since)}: ` : ""}${data.stall.reason ?? ""}`);
  add("Retries", data.retry?.attempts);
  add("Objects", data.objects?.join(", "));
  add("Labels", labelsOf(data).join(", "));
  add("Project", data.project);
  add("Installation", data.installationId);
  add("Integration", data.integrationId);
  add("Source", (data.sources ?? [data.source]).filter(Boolean).join(", "));
  return section("Facts", make("dl", { class: "facts" }, ...rows));
}

// A message is an object with its details, or a text.
function logText(message) {
  if (message === null || typeof message !== "object") return String(message ?? "");
  const details = Object.entries(message.details ?? {}).map(([name, value]) => `${name}=${value}`);
  return [[message.msg, message.error].filter(Boolean).join(": "), ...details].join(" ");
}

export function logs(event) {
  const lines = event.data.logs.map((line) => make("li", { "data-severity": String(line.severity ?? "").toLowerCase() },
    line.timestamp ? timeElement(format.absolute(line.timestamp), format.clean(line.timestamp), line.timestamp) : null,
    make("span", { class: "level" }, format.clean(line.severity ?? "")),
    isolated(logText(line.message), { class: "text" })));
  return section(`Log lines of the operation (${lines.length})`, make("ol", { class: "logs" }, ...lines));
}

export function deliveries(all) {
  if (all === null) return null;
  if (!all.length) return section("Webhooks", make("p", { class: "hint" }, "Nothing waits: every event of this operation was delivered, or is for no webhook."));
  const row = (item) => make("tr", { "data-phase": item.state === "dead_letter" ? "failed" : "running" },
    make("td", {}, isolated(item.endpoint), item.endpointRemoved ? " (removed)" : ""),
    make("td", {}, isolated(item.type)),
    make("td", {}, item.state === "dead_letter" ? "dead letter" : "waiting"),
    make("td", { class: "number" }, format.count(item.attempts ?? 0)),
    make("td", {}, item.nextAttemptTime ? timeElement(format.until(item.nextAttemptTime), format.absolute(item.nextAttemptTime), item.nextAttemptTime) : "–"),
    make("td", {}, item.lastError ? isolated(item.lastError, { class: "problem" }) : "none yet"));
  const heads = ["Endpoint", "Event", "State", "Attempts", "Next attempt", "Last answer"];
  return section("Webhooks", make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Deliveries" },
    make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))), make("tbody", {}, ...all.map(row)))));
}

function eventText({ type, data }) {
  const { progress } = data;
  const counts = progress ? `${format.count(progress.recordsProcessed)} records${progress.percent === undefined ? "" : `, ${format.percent(progress.percent)}`}` : null;
  return {
    "operation.progress": counts,
    "operation.retried": data.retry ? `attempt ${data.retry.attempts}` : null,
    "operation.overdue": data.deadline ? `deadline ${format.absolute(data.deadline)}` : null,
  }[type] ?? data.reason ?? data.result ?? counts ?? data.status ?? "";
}

// The list shows the newest; `dropped` older ones are counted only.
export function events(all, dropped) {
  if (!all.length) return section("Events", make("p", { class: "hint" }, "No events are recorded, or they are older than the retention."));
  const newest = all.slice(-LISTED_EVENTS).reverse();
  const items = newest.map((event) => make("li", {},
    timeElement(format.absolute(event.timestamp), event.timestamp, event.timestamp),
    make("span", { class: "type" }, format.clean(event.type)),
    isolated(eventText(event), { class: "text" })));
  const total = all.length + dropped;
  const more = total > newest.length ? make("p", { class: "hint" }, `The latest ${format.count(newest.length)} of ${format.count(total)} events.`) : null;
  return section(`Events (${format.count(total)})`, make("ol", { class: "events" }, ...items), more);
}

const quoted = (text) => (/^[A-Za-z0-9._-][A-Za-z0-9._~-]*$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

export function commands({ project, operationId }) {
  const path = `api/operations/${encodeURIComponent(project)}/${encodeURIComponent(operationId)}`;
  const query = new URLSearchParams({ operation: `${project}/${operationId}` });
  return section("Commands and data",
    make("ul", { class: "commands" }, ...[
      `backfill-watch status ${quoted(operationId)}`,
      `backfill-watch events --operation ${quoted(operationId)}`,
      `backfill-watch replay --operation ${quoted(operationId)}`,
    ].map((text) => make("li", {}, command(text)))),
    make("p", { class: "links" }, make("a", { href: path }, "Operation (JSON)"), make("a", { href: `api/events?${query}` }, "Events (JSON)")));
}

function* flat(data, prefix = "") {
  for (const [name, value] of Object.entries(data)) {
    if (value !== null && typeof value === "object" && !Array.isArray(value)) yield* flat(value, `${prefix}${name}.`);
    else yield [`${prefix}${name}`, Array.isArray(value) ? value.map((item) => (typeof item === "object" ? JSON.stringify(item) : item)).join(", ") : String(value)];
  }
}

// Every member as the API has it.
export function members(data) {
  const rows = [...flat(data)].filter(([name]) => name !== "deliveries").map(([name, value]) => make("div", {}, make("dt", {}, isolated(name)), make("dd", {}, isolated(value))));
  return make("section", { class: "part" }, make("details", { class: "members" }, make("summary", {}, "All members"), make("dl", { class: "facts" }, ...rows)));
}
