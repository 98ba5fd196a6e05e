// Calls to the service. The token lives as long as this tab, and nowhere on the disk.

const KEPT = "veilface-token";

export class Problem extends Error {
  constructor(status, error, hint) {
    super(error);
    this.status = status;
    this.hint = hint;
  }
}

export const token = () => sessionStorage.getItem(KEPT);
export const keepToken = (text) => sessionStorage.setItem(KEPT, text);
export const dropToken = () => sessionStorage.removeItem(KEPT);

/** Return what the service answers: JSON, a Blob for a picture, text for lines, else null. */
export async function call(method, path, { json, form, second } = {}) {
  const headers = { Authorization: `Bearer ${token()}` };
  if (json) headers["Content-Type"] = "application/json";
  if (second) headers["X-Second-Token"] = second;
  let answer;
  try {
    answer = await fetch(`/api/${path}`, {
      method, headers, body: json ? JSON.stringify(json) : form, cache: "no-store",
      credentials: "omit", redirect: "error", referrerPolicy: "no-referrer",
    });
  } catch {
    throw new Problem(0, "unreachable");
  }
  if (!answer.ok) throw await problem(answer);
  const kind = answer.headers.get("content-type") ?? "";
  if (kind.startsWith("application/json")) return answer.json();
  if (kind.startsWith("image/")) return answer.blob();
  return answer.status === 204 ? null : answer.text();
}

async function problem(answer) {
  const told = await answer.json().catch(() => ({}));
  if (answer.status === 401) document.dispatchEvent(new Event("signed-out"));
  return new Problem(answer.status, told.error ?? "", told.hint);
}

export const person = (name) => `people/${encodeURIComponent(name)}`;
