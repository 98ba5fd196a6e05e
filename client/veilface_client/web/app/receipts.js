// Receipts of people who were forgotten, and forgetting those who are due.

import { call } from "./api.js";
import { button, download, h, table } from "./dom.js";
import { moment } from "./i18n.js";
import { panel, telling } from "./telling.js";

const save = (receipt) =>
  download(`receipt-${receipt.pseudonym}.json`, `${JSON.stringify(receipt, null, 2)}\n`, "application/json");

/** Return what is told when somebody was forgotten. */
export function receiptPanel(receipt, name) {
  return panel("good", "forget.done", { name },
    h("p", {}, receipt.holds), h("p", { class: "hint" }, receipt.holds_not),
    h("p", {}, h("code", { class: "long" }, receipt.pseudonym)),
    button("receipt.save", () => save(receipt), "primary"));
}

export async function receipts({ may }) {
  const tell = telling();
  const list = h("div", { class: "card" });

  async function read() {
    const found = (await call("GET", "receipts")).receipts;
    list.replaceChildren(found.length
      ? table("receipts.title", ["log.time", "receipts.why", "log.whom", "receipts.signed", "people.acts"],
        found.map((receipt) => [
          moment(receipt.time), h("span", { t: `kind.${receipt.reason}` }),
          h("code", { class: "long" }, receipt.pseudonym),
          h("code", { class: "long" }, `${receipt.signature.slice(0, 16)}…`),
          button("receipt.save", () => save(receipt)),
        ]))
      : h("p", { class: "empty", t: "receipts.empty" }));
  }

  const due = button("expire.action", () => tell.during(due, async () => {
    const gone = (await call("POST", "expire")).receipts;
    await read();
    tell.show(panel(gone.length ? "good" : "plain", gone.length ? "expire.done" : "expire.nobody", { count: gone.length }));
  }));
  await read();
  return {
    element: h("section", {}, h("h1", { t: "receipts.title", tabIndex: -1 }),
      h("p", { class: "lead", t: "receipts.lead" }),
      may("expire") ? h("p", {}, due) : null, tell.element, list),
  };
}
