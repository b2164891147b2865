// The record count over time, as a small chart.

import { make, makeSvg } from "./dom.js";
import * as format from "./format.js";

const WIDTH = 600;
const HEIGHT = 150;
const EDGE = { left: 4, right: 4, top: 8, bottom: 4 };
// More points than pixels show nothing more.
const MOST = 300;

// The count after each event that carries one, and the present count.
export function pointsOf(events, data) {
  const points = [];
  if (data?.createTime) points.push({ time: Date.parse(data.createTime), records: 0 });
  const add = (time, progress) => {
    if (progress && Number.isFinite(time)) points.push({ time, records: progress.recordsProcessed });
  };
  for (const event of events) add(Date.parse(event.data.observedTime ?? event.timestamp), event.data.progress);
  if (data) add(Date.parse(data.observedTime ?? data.lastAnswerTime), data.progress);
  points.sort((one, other) => one.time - other.time);
  return thin(points);
}

function thin(points) {
  if (points.length <= MOST) return points;
  const step = (points.length - 1) / (MOST - 1);
  return Array.from({ length: MOST }, (_, index) => points[Math.round(index * step)]);
}

export function chart(points, data) {
  if (points.length < 2 || points.at(-1).time <= points[0].time) {
    return make("p", { class: "hint" }, "The chart appears after the second poll with a record count.");
  }
  const [from, to] = [points[0].time, points.at(-1).time];
  const total = data?.phase === "succeeded" ? undefined : data?.progress?.recordsEstimatedTotal;
  const most = Math.max(1, total ?? 0, ...points.map((point) => point.records));
  const x = (time) => EDGE.left + ((time - from) / (to - from)) * (WIDTH - EDGE.left - EDGE.right);
  const y = (records) => HEIGHT - EDGE.bottom - (records / most) * (HEIGHT - EDGE.top - EDGE.bottom);
  const line = points.map((point, index) => `${index ? "L" : "M"}${x(point.time).toFixed(1)} ${y(point.records).toFixed(1)}`).join("");
  const base = HEIGHT - EDGE.bottom;
  const last = points.at(-1);
  const svg = makeSvg("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": words(points, total) },
    ...[0.25, 0.5, 0.75].map((part) => makeSvg("path", { class: "grid", d: `M0 ${y(most * part)}H${WIDTH}` })),
    makeSvg("path", { class: "area", d: `${line}L${x(last.time)} ${base}L${x(from)} ${base}Z` }),
    total === undefined ? null : makeSvg("path", { class: "estimate", d: `M0 ${y(total).toFixed(1)}H${WIDTH}` }),
    makeSvg("path", { class: "line", d: line }));
  return make("figure", { class: "chart" },
    make("p", { class: "scale" },
      make("span", {}, `${format.count(most)} records`),
      total === undefined ? null : make("span", { class: "legend" }, `dashed: estimated total ${format.count(total)}`)),
    svg,
    make("figcaption", { class: "scale" }, make("span", {}, stamp(from, to - from)), make("span", {}, `${format.count(last.records)} at ${stamp(to, to - from)}`)));
}

const DAY = 24 * 3600 * 1000;
const stamp = (time, range) => (range > DAY ? format.absolute(time) : format.atTime(time));

// The same for those who do not see it.
function words(points, total) {
  const marks = [0, 0.25, 0.5, 0.75, 1].map((part) => points[Math.round(part * (points.length - 1))]);
  const counts = [...new Set(marks)].map((point) => `${format.count(point.records)} at ${format.absolute(point.time)}`);
  return `Records processed: ${counts.join("; ")}${total === undefined ? "" : `; estimated total ${format.count(total)}`}`;
}
