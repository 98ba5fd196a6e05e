// Enrol: name, photographs, the text of consent and a tick below it.

import { call } from "./api.js";
import { choice, field, h, tick } from "./dom.js";
import { current, day } from "./i18n.js";
import { photoPicker, verifyChosen } from "./photos.js";
import { panel, telling } from "./telling.js";

export async function enrol() {
  const texts = await call("GET", "consent");
  const tell = telling();
  const picker = photoPicker(20);
  const name = h("input", { type: "text", required: true, maxLength: 200, autocomplete: "off" });
  const purpose = h("input", { type: "text", maxLength: 500 });
  const basis = h("input", { type: "text", maxLength: 500 });
  const until = h("input", { type: "date" });
  const mode = choice([["organisation", "mode.organisation"], ["holder", "mode.holder"]]);
  const twin = h("input");
  const agreed = h("input", { required: true });
  const text = h("div", { class: "consent", tabIndex: 0, role: "region", tLabel: "consent.title" });
  const version = h("p", { class: "hint" });
  const submit = h("button", { type: "submit", class: "primary", t: "enrol.action" });

  // The text follows the page's language until it is agreed to: the record names that very text.
  function showText() {
    if (agreed.checked) return;
    const shown = texts[current()] ?? texts.en;
    text.replaceChildren(...shown.text.split(/\n\s*\n/).map((part) => h("p", {}, part)));
    text.lang = current() === "zh" ? "zh-Hans" : "en";
    version.replaceChildren(h("span", { t: "consent.version", tArgs: { version: shown.version } }));
    version.dataset.version = shown.version;
  }
  document.addEventListener("language", showText);
  showText();

  async function send() {
    const form = new FormData();
    const fields = {
      person: name.value, consent: version.dataset.version, purpose: purpose.value,
      legal_basis: basis.value, retention_date: until.value, mode: mode.value, twin: twin.checked,
    };
    for (const [key, value] of Object.entries(fields)) if (value !== "") form.set(key, value);
    for (const photo of picker.files()) form.append("photos", photo);
    const made = await call("POST", "people", { form });
    tell.show(panel("good", "enrol.done", { name: made.person },
      h("p", { t: "enrol.kept", tArgs: { count: made.photographs, day: day(made.retention_date) } }),
      made.card ? secret("enrol.card", made.card) : null));
    form_.reset();
    picker.stop();
    picker.clear();
    showText();
  }

  const form_ = h("form", {
    class: "card",
    on: {
      submit: (event) => {
        event.preventDefault();
        if (verifyChosen(picker, tell)) tell.during(submit, send);
      },
    },
  },
  field("field.name", name),
  picker.element,
  h("fieldset", {}, h("legend", { t: "consent.title" }), text, version, tick("consent.tick", agreed)),
  h("details", {}, h("summary", { t: "enrol.more" }),
    field("field.purpose", purpose, "field.purpose.hint"),
    field("field.basis", basis, "field.basis.hint"),
    field("field.until", until, "field.until.hint"),
    field("field.mode", mode, "field.mode.hint"),
    tick("field.twin", twin)),
  submit);
  return {
    element: h("section", {}, h("h1", { t: "enrol.title", tabIndex: -1 }),
      h("p", { class: "lead", t: "enrol.lead" }), h("div", { class: "beside" }, form_, tell.element)),
    stop: () => { picker.stop(); document.removeEventListener("language", showText); },
  };
}

/** Return something that is shown this once. */
export function secret(key, text) {
  return h("div", { class: "secret" }, h("p", { t: key }), h("code", { tabIndex: 0 }, text));
}
