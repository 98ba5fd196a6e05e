// Thresholds for administrators; the check of the vault for all who answer for it.

import { call } from "./api.js";
import { button, choice, field, h, table } from "./dom.js";
import { said } from "./i18n.js";
import { panel, telling } from "./telling.js";

const percent = (share) => `${Number((100 * share).toPrecision(2))} %`;

export function thresholds() {
  const tell = telling();
  const question = choice([["verify", "nav.verify"], ["identify", "nav.identify"]]);
  const rate = h("input", { type: "number", min: 0.0001, max: 49, step: "any", defaultValue: 1, required: true });
  const second = h("input", { type: "password", maxLength: 200, autocomplete: "off" });
  const submit = h("button", { type: "submit", class: "primary", t: "thresholds.action" });

  async function send() {
    const json = { question: question.value, rate: Number(rate.value) / 100 };
    const found = await call("POST", "calibrate", { json, second: second.value || undefined });
    second.value = "";
    const values = {
      rate: percent(found.rate), low: percent(found.low), high: percent(found.high),
      strangers: found.strangers, people: found.people,
    };
    tell.show(panel("good", "thresholds.done", values, h("p", { t: "thresholds.interval", tArgs: values }),
      found.warning ? h("p", { class: "hint warn" }, said(found.warning)) : null));
  }

  const form = h("form", {
    class: "card",
    on: { submit: (event) => { event.preventDefault(); tell.during(submit, send); } },
  }, field("thresholds.question", question), field("thresholds.rate", rate, "thresholds.rate.hint"),
  h("details", {}, h("summary", { t: "thresholds.second.more" }), field("thresholds.second", second, "thresholds.second.hint")),
  submit);
  return {
    element: h("section", {}, h("h1", { t: "thresholds.title", tabIndex: -1 }),
      h("p", { class: "lead", t: "thresholds.lead" }), h("div", { class: "beside" }, form, tell.element)),
  };
}

export function check() {
  const tell = telling();
  const start = button("check.action", () => tell.during(start, async () => {
    const found = await call("GET", "check");
    if (found.verdict === "pass") tell.show(panel("good", "check.pass", {}));
    else {
      tell.show(panel("bad", "check.fail", { count: found.findings.length }, table("check.title",
        ["check.where", "check.problem", "check.do"],
        found.findings.map((one) => [one.where, one.problem, one.action]))));
    }
  }), "primary");
  return {
    element: h("section", {}, h("h1", { t: "check.title", tabIndex: -1 }),
      h("p", { class: "lead", t: "check.lead" }), h("p", {}, start), tell.element),
  };
}
