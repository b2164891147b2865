// Elements. Text from elsewhere becomes text nodes only.

import { clean } from "./format.js";

export const $ = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

// An element with attributes and children; strings become text.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  return fill(element, attributes, children);
}

export function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const icon = (name) => makeSvg("svg", { class: "icon", "aria-hidden": "true", viewBox: "0 0 16 16" },
  makeSvg("use", { href: `#icon-${name}` }));

export function setIcon(element, name) {
  setAttribute(element.firstElementChild, "href", `#icon-${name}`);
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

// Text whose direction must not change what is around it.
export const isolated = (text, attributes = {}) => make("bdi", attributes, clean(text));

// Whether the reader has selected text in an element.
export function isSelecting(element) {
  const selection = getSelection();
  return !selection.isCollapsed && element.contains(selection.anchorNode);
}

const COPIED = 1500;

// A button that copies a text. `what` names it.
export function copyButton(text, what, attributes = {}) {
  const button = make("button", { type: "button", class: "copy", ...attributes }, icon("copy"));
  setCopy(button, text, what);
  return button;
}

export function setCopy(button, text, what) {
  button.dataset.copy = text;
  for (const name of ["aria-label", "title"]) setAttribute(button, name, `Copy ${what}`);
}

// One listener for all copy buttons, since rows come and go.
export function listenForCopies() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button.copy");
    if (!button) return;
    event.stopPropagation();
    event.preventDefault();
    copy(button.dataset.copy).then((isCopied) => {
      setIcon(button.firstElementChild, isCopied ? "check" : "failed");
      setText($("announcement"), isCopied ? "Copied" : "Cannot copy: the browser refuses access to the clipboard");
      setTimeout(() => setIcon(button.firstElementChild, "copy"), COPIED);
    });
  }, true);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

// Without TLS, browsers have no clipboard API beyond loopback.
function copyBySelection(text) {
  const focused = document.activeElement;
  const field = make("textarea", { class: "offscreen", readonly: true });
  field.value = text;
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  focused?.focus();
  return isCopied;
}

// A command with its copy button.
export const command = (text) => make("span", { class: "command" },
  make("code", { tabindex: "-1" }, clean(text)), copyButton(text, `the command ${clean(text)}`));

// A text in which commands are between backticks.
export function withCommands(text) {
  return clean(text).split("`").map((part, index) => (index % 2 ? command(part) : document.createTextNode(part)));
}

export const timeElement = (text, title, time) => make("time", { datetime: time, title }, text);
