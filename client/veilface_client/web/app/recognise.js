// Verify, identify, explain.

import { call } from "./api.js";
import { field, h } from "./dom.js";
import { said, t } from "./i18n.js";
import { photoPicker, verifyChosen } from "./photos.js";
import { panel, telling } from "./telling.js";

const nameField = () => h("input", { type: "text", required: true, maxLength: 200, autocomplete: "off" });
const cardField = () => h("input", { type: "password", maxLength: 200, autocomplete: "off" });

/** Return a form that sends a photograph, with a name where one is claimed. */
function asking({ title, lead, action, withName, send }) {
  const tell = telling();
  const picker = photoPicker();
  const name = withName ? nameField() : null;
  const card = withName ? cardField() : null;
  const submit = h("button", { type: "submit", class: "primary", t: action });
  const form = h("form", {
    class: "card",
    on: {
      submit: (event) => {
        event.preventDefault();
        if (!verifyChosen(picker, tell)) return;
        const sent = new FormData();
        sent.set("photo", picker.files()[0]);
        if (name) sent.set("person", name.value);
        if (card?.value) sent.set("card", card.value);
        tell.during(submit, async () => tell.show(await send(sent, name?.value)));
      },
    },
  },
  name ? field("field.person", name) : null,
  picker.element,
  card ? h("details", {}, h("summary", { t: "field.card.more" }), field("field.card", card)) : null,
  submit);
  return {
    element: h("section", {}, h("h1", { t: title, tabIndex: -1 }), h("p", { class: "lead", t: lead }),
      h("div", { class: "beside" }, form, tell.element)),
    stop: picker.stop,
  };
}

const notes = (answer) => [
  h("p", { t: `reason.${answer.reason}` }),
  answer.detail ? h("p", {}, said(answer.detail)) : null,
  answer.warning ? h("p", { class: "hint" }, said(answer.warning)) : null,
];

export const verify = () => asking({
  title: "verify.title", lead: "verify.lead", action: "verify.action", withName: true,
  send: async (form, name) => {
    const answer = await call("POST", "verify", { form });
    return panel(answer.match ? "good" : "bad", answer.match ? "verify.yes" : "verify.no", { name },
      h("p", { class: "chip", t: `band.${answer.band}` }), notes(answer));
  },
});

export const identify = () => asking({
  title: "identify.title", lead: "identify.lead", action: "identify.action", withName: false,
  send: async (form) => {
    const answer = await call("POST", "identify", { form });
    const known = answer.answer !== null;
    return panel(known ? "good" : "plain", known ? "identify.known" : "identify.unknown",
      { name: answer.answer }, notes(answer));
  },
});

export const explain = () => asking({
  title: "explain.title", lead: "explain.lead", action: "explain.action", withName: true,
  send: async (form) => {
    const picture = await call("POST", "explain", { form });
    const address = URL.createObjectURL(picture);
    const image = h("img", {
      src: address, class: "explained", alt: t("explain.alt"),
      on: { load: () => URL.revokeObjectURL(address) },
    });
    return panel("plain", "explain.done", {}, image, h("p", { class: "hint", t: "explain.aid" }));
  },
});
