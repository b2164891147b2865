// Projects and webhooks: one line while all are healthy, open when not.

import { $, icon, isSelecting, isolated, make, setText } from "./dom.js";
import { getJson } from "./connection.js";
import * as format from "./format.js";

// On a small screen the attention list is enough.
const wide = matchMedia("(min-width: 40rem)");

function webhookState(hook) {
  if (hook.state === undefined) return ["gone", "removed from the settings"];
  if (hook.state === "disabled") return ["failed", "disabled until a reload"];
  const isFailing = hook.lastErrorTime && (!hook.lastSuccessTime || Date.parse(hook.lastErrorTime) > Date.parse(hook.lastSuccessTime));
  if (isFailing && hook.state !== "open") return ["failed", `failing, ${hook.state}`];
  if (hook.deadLetters) return ["stalled", "dead letters"];
  if (isFailing) return ["stalled", "last attempt failed"];
  return hook.backlog ? ["running", "delivering"] : ["succeeded", "healthy"];
}

function projectState(project) {
  if (!project.credentialsValid) return ["failed", "API key rejected"];
  if (!project.reachable) return ["failed", "API unreachable"];
  if (project.discovery?.failingSince) return ["failed", "discovery fails"];
  if (project.pause) return ["stalled", "paused by the API"];
  return ["succeeded", "reachable"];
}

const isHealthy = ([phase]) => phase === "succeeded" || phase === "running";

function line(name, [phase, words], facts, error) {
  return make("li", { "data-phase": phase },
    make("span", { class: "phase" }, icon(phase), words), isolated(name, { class: "name" }),
    make("span", { class: "facts" }, facts.filter(Boolean).join(" · ")),
    error ? isolated(error, { class: "problem", title: format.clean(error) }) : null);
}

function oldestText({ recordedTime, attempts, nextAttemptTime }) {
  const isAhead = nextAttemptTime && format.secondsSince(nextAttemptTime) < 0;
  const next = isAhead ? `, next ${format.until(nextAttemptTime)}` : "";
  return `oldest for ${format.span(format.secondsSince(recordedTime))}, ${format.plural(attempts, "attempt")}${next}`;
}

function webhookLine(hook) {
  const state = webhookState(hook);
  const { oldest } = hook;
  const facts = [
    `${format.count(hook.backlog)} waiting`,
    oldest && !isHealthy(state) ? oldestText(oldest) : null,
    hook.deadLetters ? format.plural(hook.deadLetters, "dead letter") : null,
    hook.lastSuccessTime ? `last delivered ${format.ago(hook.lastSuccessTime)}` : "nothing delivered yet",
  ];
  return line(hook.name, state, facts, isHealthy(state) ? null : hook.lastError);
}

function projectLine(project) {
  const state = projectState(project);
  const { gate, discovery, pause } = project;
  const since = project.credentialsRejectedSince ?? project.unreachableSince;
  const facts = [
    since ? `since ${format.atTime(since)}` : null,
    pause ? `paused until ${format.atTime(pause.until)}${pause.reason ? ` (${format.clean(pause.reason)})` : ""}` : null,
    project.lastAnswerTime ? `last answer ${format.ago(project.lastAnswerTime)}` : null,
    gate ? `gate ${format.count(gate.maxRequestsPerSecond)} requests/s, ${format.count(gate.waiting)} waiting` : null,
    discovery ? `discovery: ${format.plural(discovery.installations, "installation")}, ${format.plural(discovery.objects, "object")}` : null,
  ];
  return line(project.name, state, facts, isHealthy(state) ? null : discovery?.lastError ?? project.lastError);
}

// `2 projects, 1 of 3 webhooks failing`: the states of those that are not healthy.
function summary(states, what) {
  const bad = states.filter((state) => !isHealthy(state));
  if (!states.length) return `no ${what}s`;
  if (!bad.length) return `${format.plural(states.length, what)} healthy`;
  const words = new Set(bad.map(([, text]) => text));
  return `${format.count(bad.length)} of ${format.plural(states.length, what)}: ${[...words].join(", ")}`;
}

// The ages in the lines change without news of the daemon. A selection delays that.
function showLines(list, lines) {
  const isNew = lines.length !== list.children.length || lines.some((line, index) => line.outerHTML !== list.children[index].outerHTML);
  if (isNew && !isSelecting(list)) list.replaceChildren(...lines);
}

export async function showServices() {
  const read = async (path, member) => {
    try {
      return (await getJson(path))[member] ?? [];
    } catch {
      return null;
    }
  };
  const [projects, hooks] = await Promise.all([read("api/projects", "projects"), read("api/webhooks", "endpoints")]);
  if (!projects || !hooks) return;
  const states = [projects.map(projectState), hooks.map(webhookState)];
  const isBad = states.flat().some((state) => !isHealthy(state));
  const panel = $("services");
  // A change of the state opens or closes it; the reader may do so, too.
  if (panel.dataset.bad !== String(isBad)) {
    panel.dataset.bad = String(isBad);
    panel.open = isBad && wide.matches;
  }
  panel.hidden = false;
  setText($("services-summary"), `${format.sentence(summary(states[0], "project"))}; ${summary(states[1], "webhook")}`);
  if (!panel.open) return;
  showLines($("project-list"), projects.map(projectLine));
  showLines($("webhook-list"), hooks.map(webhookLine));
  $("webhook-part").hidden = hooks.length === 0;
}
