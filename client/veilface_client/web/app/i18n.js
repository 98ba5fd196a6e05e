// English and Chinese: dictionaries of the service, chosen by the browser or by hand.

export const LANGUAGES = { en: "English", zh: "中文" };
const KEPT = "veilface-language";
const FIGURE = /\d[\d.:e-]*/g;
let words = {};
let fallback = {};
let language = "en";

export async function start() {
  fallback = await load("en");
  const kept = sessionStorage.getItem(KEPT);
  const wanted = [kept, ...navigator.languages].filter(Boolean).map((name) => name.slice(0, 2));
  await choose(wanted.find((name) => name in LANGUAGES) ?? "en");
}

export async function choose(name) {
  words = name === "en" ? fallback : await load(name);
  language = name;
  sessionStorage.setItem(KEPT, name);
  document.documentElement.lang = name === "zh" ? "zh-Hans" : name;
}

export const current = () => language;

/** Return the text of a key, with {name} replaced by values; a key of nothing is itself. */
export function t(key, values = {}) {
  const text = words[key] ?? fallback[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Return a sentence of the service in this language, if the dictionary has it; # stands for figures. */
export function said(sentence) {
  const figures = sentence.match(FIGURE) ?? [];
  const known = words.said?.[sentence.replace(FIGURE, "#")];
  return known ? known.replace(/#/g, () => figures.shift()) : sentence;
}

export function moment(text) {
  if (!text) return "";
  const style = { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(document.documentElement.lang, style).format(new Date(text));
}

export function day(text) {
  if (!text) return "";
  const style = { dateStyle: "medium", timeZone: "UTC" };
  return new Intl.DateTimeFormat(document.documentElement.lang, style).format(new Date(text));
}

async function load(name) {
  const answer = await fetch(`/i18n/${name}.json`);
  if (!answer.ok) throw new Error(`no dictionary ${name}`);
  return answer.json();
}
