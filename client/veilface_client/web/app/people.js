// People: who is enrolled, on what grounds and until when; consent, export, forgetting.

import { call, person } from "./api.js";
import { button, download, field, h, table } from "./dom.js";
import { day } from "./i18n.js";
import { photoPicker, verifyChosen } from "./photos.js";
import { receiptPanel } from "./receipts.js";
import { panel, telling } from "./telling.js";

const SHOWN = 100;

export async function people({ may }) {
  const tell = telling();
  const list = h("div", {});
  const filter = h("input", { type: "search", autocomplete: "off", on: { input: draw } });
  let everybody = [];

  async function read() {
    everybody = await call("GET", "people");
    draw();
  }

  function draw() {
    const wanted = filter.value.trim().toLocaleLowerCase();
    const found = everybody.filter((one) => one.person.toLocaleLowerCase().includes(wanted));
    const counted = h("p", { class: "hint", t: "people.count",
      tArgs: { shown: Math.min(found.length, SHOWN), found: found.length } });
    if (!found.length) {
      list.replaceChildren(h("p", { class: "empty", t: everybody.length ? "people.none" : "people.empty" }));
      return;
    }
    list.replaceChildren(counted, table("people.title",
      ["field.name", "people.consent", "people.until", "people.used", "people.templates", "people.acts"],
      found.slice(0, SHOWN).map(row)));
  }

  function row(one) {
    const due = new Date(one.retention_date) <= new Date();
    return [
      h("strong", {}, one.person),
      h("span", {}, one.consent_version, h("br"), h("span", { class: "hint" }, one.purpose)),
      h("span", { class: due ? "warn" : "" }, day(one.retention_date)),
      one.last_use ? day(one.last_use) : "–",
      h("span", {}, String(one.templates), one.mode === "holder" ? h("span", { class: "chip", t: "people.holder" }) : null),
      h("span", { class: "row tight" },
        may("enrol") ? button("people.add", () => addPhotos(one, tell, read)) : null,
        may("consent") ? button("people.consent.change", () => newConsent(one, tell, read)) : null,
        may("export-person") ? button("people.export", () => save(one, tell)) : null,
        may("forget") ? button("people.forget", () => forget(one, tell, read), "danger") : null),
    ];
  }

  await read();
  return {
    element: h("section", {}, h("h1", { t: "people.title", tabIndex: -1 }),
      h("p", { class: "lead", t: "people.lead" }), tell.element,
      h("div", { class: "card" }, field("people.filter", filter), list)),
  };
}

/** Ask in a dialogue; `work` runs when it is agreed to, and whatever fails is told in it. */
function dialogue(title, values, content, action, kind, work, end = () => {}) {
  const tell = telling();
  const heading = h("h2", { t: title, tArgs: values, id: crypto.randomUUID() });
  const agree = h("button", { type: "submit", class: kind, t: action });
  const box = h("dialog", { "aria-labelledby": heading.id },
    h("form", {
      on: { submit: (event) => {
        event.preventDefault();
        tell.during(agree, async () => { if (await work(tell) !== false) box.close(); });
      } },
    }, heading, content, tell.element,
    h("div", { class: "row end" }, button("cancel", () => box.close()), agree)));
  box.addEventListener("close", () => { end(); box.remove(); });
  document.body.append(box);
  box.showModal();
}

function forget(one, tell, read) {
  dialogue("forget.title", { name: one.person }, h("p", { t: "forget.lead" }), "people.forget", "danger",
    async () => {
      const receipt = await call("DELETE", person(one.person));
      await read();
      tell.show(receiptPanel(receipt, one.person));
    });
}

function newConsent(one, tell, read) {
  const version = h("input", { type: "text", required: true, maxLength: 100, value: one.consent_version });
  const purpose = h("input", { type: "text", maxLength: 500, value: one.purpose });
  const basis = h("input", { type: "text", maxLength: 500, value: one.legal_basis });
  const until = h("input", { type: "date", value: one.retention_date });
  const content = [h("p", { t: "consent.change.lead" }), field("consent.version.field", version),
    field("field.purpose", purpose), field("field.basis", basis), field("field.until", until, "field.until.hint")];
  dialogue("consent.change", { name: one.person }, content, "save", "primary", async () => {
    const json = { consent: version.value };
    if (purpose.value) json.purpose = purpose.value;
    if (basis.value) json.legal_basis = basis.value;
    if (until.value) json.retention_date = until.value;
    const kept = await call("PUT", `${person(one.person)}/consent`, { json });
    await read();
    tell.show(panel("good", "consent.changed", { name: one.person, day: day(kept.retention_date) }));
  });
}

function addPhotos(one, tell, read) {
  const picker = photoPicker(20);
  const card = h("input", { type: "password", maxLength: 200, autocomplete: "off" });
  const content = [picker.element, one.mode === "holder" ? field("field.card", card) : null];
  dialogue("add.title", { name: one.person }, content, "people.add", "primary", async (inside) => {
    if (!verifyChosen(picker, inside)) return false;
    const form = new FormData();
    for (const photo of picker.files()) form.append("photos", photo);
    if (card.value) form.set("card", card.value);
    const made = await call("POST", `${person(one.person)}/photos`, { form });
    await read();
    tell.show(panel("good", "add.done", { name: one.person, count: made.templates }));
    return true;
  }, picker.stop);
}

async function save(one, tell) {
  try {
    const found = await call("GET", `${person(one.person)}/export`);
    download(`${found.pseudonym}.json`, JSON.stringify(found, null, 2), "application/json");
    tell.show(panel("good", "export.done", { name: one.person }));
  } catch (problem) {
    tell.fail(problem);
  }
}
