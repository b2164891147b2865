// Texts of numbers, times and strings from elsewhere.

const number = new Intl.NumberFormat("en");
const decimal = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
// Local time as in logs: the Swedish format is that of ISO 8601.
const timeOfDay = new Intl.DateTimeFormat("sv-SE", { timeStyle: "medium" });
const dayAndTime = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium" });

// The difference between the daemon's clock and that of the browser, in milliseconds.
export const clock = { offset: 0 };
export const now = () => Date.now() + clock.offset;

export const count = (value) => number.format(value);
export const short = (value) => (value < 1e6 ? number.format(value) : compact.format(value));
export const rate = (value) => `${value < 100 ? decimal.format(value) : number.format(Math.round(value))}/s`;
export const percent = (value) => (value >= 100 ? "100 %" : `${value.toFixed(1)} %`);
export const plural = (value, one, many = `${one}s`) => `${number.format(value)} ${value === 1 ? one : many}`;

// Control and bidirectional characters could change the lines or the direction of the text around them.
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;
const ESCAPES = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
const escapeOf = (character) => ESCAPES[character] ?? `\\u{${character.codePointAt(0).toString(16)}}`;
export const clean = (text) => String(text).replace(CONTROL, escapeOf);

export function sentence(text) {
  const cleaned = clean(text);
  return /^[a-z]+ /.test(cleaned) ? cleaned[0].toUpperCase() + cleaned.slice(1) : cleaned;
}

// A rounded length of time, such as `4 min`.
export function span(seconds) {
  if (Math.round(seconds) < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = seconds / 3600;
  if (hours < 10) return `${decimal.format(Math.round(hours * 2) / 2)} h`;
  if (hours < 36) return `${Math.round(hours)} h`;
  return plural(Math.round(hours / 24), "day");
}

// A length of time to the second or minute, such as `1 h 5 min`.
export function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${seconds < 10 ? decimal.format(seconds) : whole} s`;
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  if (hours) return minutes ? `${hours} h ${minutes} min` : `${hours} h`;
  return whole % 60 && minutes < 10 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
}

export const secondsSince = (time) => (now() - Date.parse(time)) / 1000;

export function ago(time) {
  const seconds = secondsSince(time);
  return seconds < 3 ? "just now" : `${span(seconds)} ago`;
}

export function timeLeft(time) {
  const seconds = -secondsSince(time);
  if (seconds < 0) return "past its estimated end";
  if (seconds < 5) return "a few seconds left";
  if (seconds < 55) return `about ${Math.ceil(seconds / 10) * 10} s left`;
  return `about ${span(seconds)} left`;
}

export function until(time) {
  const seconds = -secondsSince(time);
  return seconds < 1 ? "now" : `in ${span(seconds)}`;
}

export const absolute = (time) => dayAndTime.format(typeof time === "number" ? time : Date.parse(time));
export const atTime = (time) => timeOfDay.format(typeof time === "number" ? time : Date.parse(time));
