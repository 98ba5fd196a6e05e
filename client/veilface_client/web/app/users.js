// Accounts of the service: a token is shown once, when it is made.

import { call } from "./api.js";
import { button, choice, field, h, table } from "./dom.js";
import { moment } from "./i18n.js";
import { secret } from "./enrol.js";
import { panel, telling } from "./telling.js";

const ROLES = ["operator", "enroller", "privacy-officer", "auditor", "administrator"];

export async function users({ me }) {
  const tell = telling();
  const list = h("div", { class: "card" });
  const name = h("input", { type: "text", required: true, maxLength: 40, pattern: "[a-z0-9][a-z0-9._\\-]*", autocomplete: "off" });
  const role = choice(ROLES.map((one) => [one, `role.${one}`]));
  const days = h("input", { type: "number", min: 1, max: 366, defaultValue: 90, required: true });
  const submit = h("button", { type: "submit", class: "primary", t: "users.add" });
  const form = h("form", {
    class: "card",
    on: { submit: (event) => { event.preventDefault(); tell.during(submit, add); } },
  }, h("h2", { t: "users.new" }), field("users.name", name, "users.name.hint"), field("users.role", role),
  field("users.days", days), submit);

  async function add() {
    const json = { name: name.value, role: role.value, days: Number(days.value) };
    const made = await call("POST", "users", { json });
    await read();
    form.reset();
    tell.show(panel("good", "users.made", { name: made.name }, secret("users.token", made.token)));
  }

  async function remove(user, control) {
    await tell.during(control, async () => {
      await call("DELETE", `users/${encodeURIComponent(user.name)}`);
      await read();
      tell.show(panel("good", "users.removed", { name: user.name }));
    });
  }

  async function read() {
    const found = await call("GET", "users");
    list.replaceChildren(table("users.title", ["users.name", "users.role", "users.until", "people.acts"],
      found.map((user) => {
        const ended = new Date(user.expires) <= new Date();
        const control = button("users.remove", () => remove(user, control), "danger");
        return [
          h("strong", {}, user.name), h("span", { t: `role.${user.role}` }),
          h("span", { class: ended ? "warn" : "" }, moment(user.expires)),
          user.name === me.name ? h("span", { class: "hint", t: "users.you" }) : control,
        ];
      })));
  }

  await read();
  return {
    element: h("section", {}, h("h1", { t: "users.title", tabIndex: -1 }),
      h("p", { class: "lead", t: "users.lead" }), tell.element, list, form),
  };
}
