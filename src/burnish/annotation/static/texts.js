// Turns of conversations and answers, as people read them.

import { el, t } from "./dom.js";

export function turn(role, m) {
  const thought = m.reasoning && el("details", { class: "thought" }, el("summary", {}, t("Thought")), el("div", { class: "text", dir: "auto", html: m.reasoning.html }));
  const said = !m.text ? null : role === "tool" ? el("pre", { class: "result", dir: "auto", tabIndex: 0 }, m.text) : el("div", { class: "text", dir: "auto", html: m.html });
  return el("div", { class: `turn ${role}` }, el("span", { class: "role" }, t(role), m.tool ? [": ", el("bdi", {}, m.tool)] : null),
    thought, said, (m.calls ?? []).map((one) => el("pre", { class: "call", tabIndex: 0 }, one)));
}
export const written = (one) => one.turns ? el("div", { class: "trace" }, one.turns.map((m) => turn(m.role, m))) : el("div", { class: "text", dir: "auto", html: one.html });
