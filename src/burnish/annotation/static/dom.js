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

export const key = (name) => el("kbd", {}, name);
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
    throw new Refused(401, "log in again");
  }
  if (response.status === 204) return null;
  const found = await response.json().catch(() => ({ detail: `the server answered ${response.status}` }));
  if (!response.ok) throw new Refused(response.status, found.detail ?? `the server answered ${response.status}`);
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
