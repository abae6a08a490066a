// Building elements and talking to the server. Text always becomes text nodes; HTML comes only from the server, cleaned there.

export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") made.className = value;
    else if (name === "html") made.innerHTML = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && !name.startsWith("aria") && name !== "role" && name !== "for") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

// What the interface says, in the person's language: the English text is the key, {name} a value in it.
const words = JSON.parse(document.querySelector("meta[name=words]")?.content ?? "{}");
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
export const t = (text, values = {}) => fill(words.texts?.[text]?.[0] ?? text, values);
export function tn(one, more, n, values = {}) {
  const forms = words.texts?.[one];
  const form = forms?.length > 1 ? forms[Math.min(Number(words.plural[n < 200 ? n : 100 + (n % 100)]), forms.length - 1)] : n === 1 ? one : more;
  return fill(form, { n, ...values });
}

// The key that was pressed, as on a Latin keyboard: on others by its position.
export function pressed(event) {
  if (event.key === "؟" || (event.code === "Slash" && event.shiftKey && !/^[ -~]$/.test(event.key))) return "?";
  if (/^[a-z0-9?]$/i.test(event.key) || event.key.length > 1 && event.key !== "Process") return event.key.length > 1 ? event.key : event.key.toLowerCase();
  const place = /^(?:Key([A-Z])|(?:Digit|Numpad)([0-9]))$/.exec(event.code ?? "");
  return place && !event.shiftKey ? (place[1] ?? place[2]).toLowerCase() : event.key;
}

// Single letters and digits are keys, unless the person has turned them off.
export const letterKeys = document.querySelector("[data-letters]")?.dataset.letters !== "no";
export const backwards = document.documentElement.dir === "rtl";
export const key = (name) => (letterKeys || name.length > 1 ? el("kbd", {}, name) : null);
// Keys and what they do, for a <dl>; single letters and digits are left out where they are turned off.
export const keyList = (help) => help.filter(([name]) => letterKeys || /Enter|Esc|[←↑]/.test(name)).flatMap(([name, what]) => [el("dt", {}, key(name)), el("dd", {}, what)]);
// The bar at the foot of a page; what stands above it (--bar) follows its height, which grows where buttons or a message take a line more.
const heights = new ResizeObserver(([entry]) => document.documentElement.style.setProperty("--bar", `${entry.target.offsetHeight}px`));
export function footBar(...children) {
  const made = el("div", { class: "bar" }, ...children);
  heights.disconnect();
  heights.observe(made);
  return made;
}
export const letter = (place) => "ABCDEFGHIJ"[place];

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const root = document.querySelector("meta[name=root]")?.content ?? "";
const csrf = document.querySelector("meta[name=csrf]")?.content ?? "";

// One request; raises Refused for what the server refuses, TypeError where it cannot be reached.
export async function call(method, path, body, { keepalive = false } = {}) {
  const response = await fetch(`${root}/api/v1${path}`, {
    method,
    headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
    body: body === undefined ? undefined : JSON.stringify(body),
    credentials: "same-origin",
    keepalive,
  });
  if (response.status === 401) {
    location.assign(`${root}/login`);
    throw new Refused(401, t("Log in again."));
  }
  if (response.status === 204) return null;
  const found = await response.json().catch(() => ({ detail: t("The server answered {status}.", { status: response.status }) }));
  if (!response.ok) throw new Refused(response.status, found.detail ?? t("The server answered {status}.", { status: response.status }));
  return found;
}

// The same request until the server can be reached: answers are acknowledged twice but counted once.
export async function callUntilHeard(method, path, body, waiting) {
  for (let pause = 500; ; pause = Math.min(pause * 2, 8000)) {
    try {
      return await call(method, path, body);
    } catch (error) {
      if (error instanceof Refused && error.status < 500) throw error;
      waiting();
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}
