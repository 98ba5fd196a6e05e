// Where a view tells what came of something: read aloud, and shown until the next attempt.

import { h } from "./dom.js";
import { said, t } from "./i18n.js";

/** Return {element, busy, say, fail, clear, during} of one live region. */
export function telling() {
  const element = h("div", { class: "telling", role: "status", "aria-live": "polite" });
  const clear = () => element.replaceChildren();

  function show(...children) {
    element.replaceChildren(...children);
    element.scrollIntoView({ block: "nearest" }); // on a phone it is below what was asked with
  }

  function fail(problem) {
    const known = `problem.${problem.status}`;
    const isKnown = t(known) !== known;
    show(h("div", { class: "panel bad" },
      h("p", { class: "headline", t: isKnown ? known : "problem" }),
      problem.message && problem.status !== 0 ? h("p", {}, said(problem.message)) : null,
      problem.hint ? h("p", { class: "hint" }, said(problem.hint)) : null));
  }

  /** Run something, with `control` out of use meanwhile; whatever fails is told. */
  async function during(control, work) {
    show(h("p", { class: "busy" }, h("span", { class: "dots", "aria-hidden": "true" }),
      h("span", { t: "busy" })));
    control.disabled = true;
    try {
      await work();
    } catch (problem) {
      if (problem.status !== 401) fail(problem);
      if (problem.status === undefined) throw problem;
    } finally {
      control.disabled = false;
    }
  }

  return { element, clear, show, fail, during };
}

/** Return a panel: kind `good`, `bad` or `plain`, a headline's key, and more below. */
export function panel(kind, headline, values, ...more) {
  return h("div", { class: `panel ${kind}` },
    h("p", { class: "headline", t: headline, tArgs: values }), more);
}
