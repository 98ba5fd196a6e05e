// For auditors: the budget of the federation, and the log of who did what to which pseudonym.

import { call } from "./api.js";
import { button, download, h, table } from "./dom.js";
import { moment, said } from "./i18n.js";
import { telling } from "./telling.js";

const PAGE = 50;

export async function budget() {
  const { report } = await call("GET", "budget");
  const body = report ? spent(report) : h("p", { class: "empty", t: "budget.none" });
  return {
    element: h("section", {}, h("h1", { t: "budget.title", tabIndex: -1 }),
      h("p", { class: "lead", t: "budget.lead" }), h("div", { class: "card" }, body)),
  };
}

function spent(report) {
  const charged = report.spent.charged;
  const most = report.policy.epsilon;
  const meter = h("meter", { min: 0, max: most, value: charged, tLabel: "budget.meter" });
  const tile = (key, value) => h("div", { class: "tile" }, h("dt", { t: key }), h("dd", {}, value));
  return h("div", {}, meter,
    h("dl", { class: "tiles" }, tile("budget.spent", `ε ${charged.toPrecision(3)}`),
      tile("budget.allowed", `ε ${most}`), tile("budget.delta", `δ ${report.policy.delta}`),
      tile("budget.unit", h("span", { t: `unit.${report.unit}` })),
      tile("budget.releases", String(report.releases.length + report.runs.length))),
    h("p", {}, report.plain_words),
    (report.warnings ?? []).map((warning) => h("p", { class: "hint warn" }, warning)),
    button("budget.save", () => download("budget.json", JSON.stringify(report, null, 2), "application/json")));
}

export async function log() {
  const tell = telling();
  const list = h("div", {});
  const tiles = h("dl", { class: "tiles" });
  let first = 0; // the page shows what comes after this entry
  let last = 0;

  async function show(since) {
    const page = await call("GET", since === null ? `log?limit=${PAGE}` : `log?limit=${PAGE}&since=${since}`);
    last = page.last;
    first = since ?? Math.max(0, last - PAGE);
    older.disabled = first === 0;
    newer.disabled = first + PAGE >= last;
    list.replaceChildren(table("log.title",
      ["log.time", "log.what", "log.outcome", "log.who", "log.whom", "log.why"],
      page.entries.slice().reverse().map((entry) => [
        moment(entry.time), h("span", { t: `kind.${entry.kind}` }),
        entry.outcome ? h("span", { class: `chip ${entry.outcome}`, t: `outcome.${entry.outcome}` }) : "–",
        entry.actor ? h("span", {}, entry.actor, h("br"), entry.actor === "nobody" ? null : h("span", { class: "hint", t: `role.${entry.role}` })) : "–",
        entry.subject ? h("code", { class: "long" }, entry.subject.slice(0, 8)) : "–",
        entry.reason ? said(entry.reason) : "–",
      ])));
  }

  async function count() {
    const { counts } = await call("GET", "log/counts");
    const total = (kind) => Object.values(counts[kind] ?? {}).reduce((sum, number) => sum + number, 0);
    const shown = ["verified", "identified", "enrolled", "forgotten", "refused", "alert", "user-failed"];
    tiles.replaceChildren(...shown.map((kind) =>
      h("div", { class: "tile" }, h("dt", { t: `kind.${kind}` }), h("dd", {}, String(total(kind))))));
  }

  const older = button("log.older", () => show(Math.max(0, first - PAGE)));
  const newer = button("log.newer", () => show(first + PAGE));
  const save = button("log.save", () => tell.during(save, async () => {
    download("access-log.jsonl", await call("GET", "log?format=jsonl"), "application/jsonl");
    tell.clear();
  }));
  await Promise.all([show(null), count()]);
  return {
    element: h("section", {}, h("h1", { t: "log.title", tabIndex: -1 }),
      h("p", { class: "lead", t: "log.lead" }), tiles, tell.element,
      h("div", { class: "card" }, list, h("div", { class: "row" }, older, newer, save))),
  };
}
