// Elements without markup: what came from anywhere is text, never HTML.

import { t } from "./i18n.js";

/**
 * Return an element. Attributes: `class`, `on: {event: listener}`, `t: key` for a text that follows
 * the language, `tArgs` for its values, `tLabel` and `tPlaceholder` for keys of attributes; others
 * are set as properties where the element has them, else as attributes.
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) set(element, name, value);
  if (element.dataset.t || element.dataset.tLabel || element.dataset.tPlaceholder) translate(element);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

function set(element, name, value) {
  if (value === undefined || value === null) return;
  if (name === "class") element.className = value;
  else if (name === "on") {
    for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
  } else if (name === "t") element.dataset.t = value;
  else if (name === "tArgs") element.dataset.tArgs = JSON.stringify(value);
  else if (name === "tLabel") element.dataset.tLabel = value;
  else if (name === "tPlaceholder") element.dataset.tPlaceholder = value;
  else if (name === "data") Object.assign(element.dataset, value);
  else if (name in element && !name.startsWith("aria")) element[name] = value;
  else element.setAttribute(name, value);
}

/** Write an element's texts in the language of now. */
export function translate(element) {
  const values = element.dataset.tArgs ? JSON.parse(element.dataset.tArgs) : {};
  if (element.dataset.t) element.textContent = t(element.dataset.t, values);
  if (element.dataset.tLabel) element.setAttribute("aria-label", t(element.dataset.tLabel, values));
  if (element.dataset.tPlaceholder) element.placeholder = t(element.dataset.tPlaceholder, values);
}

/** Write every text of the page in the language of now. */
export function translateAll() {
  document.querySelectorAll("[data-t], [data-t-label], [data-t-placeholder]").forEach(translate);
}

let numbers = 0;

/** Return a labelled field: `control` with its label above it and, where given, a hint below. */
export function field(label, control, hint) {
  control.id ||= `field-${++numbers}`;
  const parts = [h("label", { htmlFor: control.id, t: label }), control];
  if (hint) {
    const below = h("p", { class: "hint", t: hint, id: `${control.id}-hint` });
    control.setAttribute("aria-describedby", below.id);
    parts.push(below);
  }
  return h("div", { class: "field" }, parts);
}

/** Return a checkbox before its label. */
export function tick(label, control) {
  control.type = "checkbox";
  control.id ||= `field-${++numbers}`;
  return h("div", { class: "tick" }, control, h("label", { htmlFor: control.id, t: label }));
}

export function button(key, on, kind = "") {
  return h("button", { type: "button", class: kind, t: key, on: { click: on } });
}

/** Return a selection; `options` are [value, key]. */
export function choice(options, attributes = {}) {
  const made = options.map(([value, key]) => h("option", { value, t: key }));
  return h("select", attributes, made);
}

/** Put a file into the user's downloads. */
export function download(name, content, type) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  const link = h("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

/** Return a table whose rows become cards on a phone; `rows` are lists of elements or texts. */
export function table(caption, columns, rows) {
  const head = h("tr", {}, columns.map((column) => h("th", { scope: "col", t: column })));
  const body = rows.map((row) =>
    h("tr", {}, row.map((cell, number) =>
      h("td", {}, h("span", { class: "cell-name", t: columns[number] }), h("span", {}, cell)))));
  return h("table", {}, h("caption", { class: "unseen", t: caption }), h("thead", {}, head),
    h("tbody", {}, body));
}
