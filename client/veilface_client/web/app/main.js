// The page: sign in, and then the views that the role may have.

import { call, dropToken, keepToken, token } from "./api.js";
import * as audit from "./audit.js";
import { field, h, translateAll } from "./dom.js";
import { enrol } from "./enrol.js";
import { LANGUAGES, choose, current, start } from "./i18n.js";
import { check, thresholds } from "./keeping.js";
import { people } from "./people.js";
import { receipts } from "./receipts.js";
import { explain, identify, verify } from "./recognise.js";
import { telling } from "./telling.js";
import { users } from "./users.js";

// name of the view -> what shows it, and the acts of which one is enough
const VIEWS = {
  verify: [verify, ["verify"]],
  identify: [identify, ["identify"]],
  explain: [explain, ["explain"]],
  enrol: [enrol, ["enrol"]],
  people: [people, ["people"]],
  log: [audit.log, ["log"]],
  budget: [audit.budget, ["budget"]],
  receipts: [receipts, ["forget", "log"]],
  users: [users, ["users"]],
  thresholds: [thresholds, ["calibrate"]],
  check: [check, ["check"]],
};
let me = null;
let open = null;

const may = (act) => me.acts.includes(act);
const views = () => Object.keys(VIEWS).filter((name) => VIEWS[name][1].some(may));

const main = h("main", { id: "main" });
const nav = h("nav", { tLabel: "nav" });
const who = h("p", { class: "who" });
const language = h("select", {
  tLabel: "language",
  on: { change: async () => {
    await choose(language.value);
    translateAll();
    title();
    document.dispatchEvent(new Event("language"));
  } },
}, Object.entries(LANGUAGES).map(([value, name]) => h("option", { value, lang: value }, name)));
const leave = h("button", { type: "button", class: "quiet", t: "sign-out", hidden: true, on: { click: signOut } });

function title() {
  const heading = main.querySelector("h1")?.textContent;
  document.title = heading ? `${heading} · Veilface` : "Veilface";
}

function close() {
  open?.stop?.();
  open = null;
  document.querySelectorAll("dialog").forEach((box) => box.close());
}

async function show() {
  if (!me) return;
  const known = views();
  const name = known.includes(location.hash.slice(1)) ? location.hash.slice(1) : known[0];
  close();
  nav.querySelectorAll("a").forEach((link) => {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
  try {
    const view = await VIEWS[name][0]({ me, may });
    if (!me) return;
    open = view;
    main.replaceChildren(view.element);
  } catch (problem) {
    if (problem.status === 401) return;
    const tell = telling();
    tell.fail(problem);
    main.replaceChildren(h("section", {}, h("h1", { t: `nav.${name}`, tabIndex: -1 }), tell.element));
  }
  title();
  main.querySelector("h1").focus();
}

async function enter() {
  me = await call("GET", "me");
  who.replaceChildren(h("strong", {}, me.organisation), " ", h("span", {}, me.name), " ",
    h("span", { class: "chip", t: `role.${me.role}` }));
  leave.hidden = false;
  nav.hidden = false;
  nav.replaceChildren(...views().map((name) => h("a", { href: `#${name}`, t: `nav.${name}` })));
  document.body.classList.add("inside");
  await show();
}

function signOut() {
  close();
  me = null;
  dropToken();
  history.replaceState(null, "", "/");
  signIn();
}

function signIn(reason) {
  document.body.classList.remove("inside");
  leave.hidden = true;
  nav.hidden = true;
  who.replaceChildren();
  const tell = telling();
  const secret = h("input", { type: "password", required: true, maxLength: 200, autocomplete: "off", spellcheck: false });
  const submit = h("button", { type: "submit", class: "primary", t: "sign-in.action" });
  const form = h("form", {
    class: "card",
    on: { submit: (event) => {
      event.preventDefault();
      keepToken(secret.value.trim());
      tell.during(submit, async () => {
        try {
          await enter();
        } catch (problem) {
          dropToken();
          tell.fail(problem);
        }
      });
    } },
  }, field("sign-in.token", secret, "sign-in.hint"), submit, tell.element);
  main.replaceChildren(h("section", { class: "narrow" }, h("h1", { t: "sign-in.title", tabIndex: -1 }),
    h("p", { class: "lead", t: "sign-in.lead" }), form));
  if (reason) tell.show(h("p", { class: "panel bad", t: reason }));
  title();
  secret.focus();
}

await start();
language.value = current();
document.body.replaceChildren(
  h("a", { class: "skip", href: "#main", t: "skip", on: { click: (event) => {
    event.preventDefault();
    (main.querySelector("h1") ?? main).focus();
  } } }),
  h("header", { class: "top" },
    h("span", { class: "brand" }, h("img", { src: "/mark.svg", alt: "", width: 28, height: 28 }), "Veilface"),
    who, h("div", { class: "row tight" }, language, leave)),
  nav, main);
translateAll(); // what was made before the dictionaries came
addEventListener("hashchange", show);
document.addEventListener("signed-out", () => {
  if (!me) return;
  signOut();
  signIn("sign-in.ended");
});
if (token()) await enter().catch(() => signIn());
else signIn();
