// Turns of conversations and answers, as people read them.

import { el, t } from "./dom.js";

export function turn(role, m) {
  const thought = m.reasoning && el("details", { class: "thought" }, el("summary", {}, t("Thought")), el("div", { class: "text", dir: "auto", html: m.reasoning.html }));
  const said = !m.text ? null : role === "tool" ? el("pre", { class: "result", dir: "auto", tabIndex: 0 }, m.text) : el("div", { class: "text", dir: "auto", html: m.html });
  return el("div", { class: `turn ${role}` }, el("span", { class: "role" }, t(role), m.tool ? [": ", el("bdi", {}, m.tool)] : null),
    thought, said, (m.calls ?? []).map((one) => el("pre", { class: "call", tabIndex: 0 }, one)));
}
const PICTURE = /!\[([^\]\n]*)\]\(image:([0-9a-f]{64}\.\w+)\)/g;
// A text whose Markdown is shown as it is written, without the long names of its images.
export const plain = (text) => text.replace(PICTURE, "▣ $1");
// A piece of such a text: an image as an image, with what is written for it kept in the page, since marks count its characters.
export function piece(text) {
  const [image] = text.matchAll(PICTURE);
  return image ? [el("span", { class: "away" }, image[0]), el("img", { class: "picture", "data-image": image[2], alt: image[1] }), text.slice(image[0].length)] : text;
}
export const written = (one) => one.turns ? el("div", { class: "trace" }, one.turns.map((m) => turn(m.role, m))) : el("div", { class: "text", dir: "auto", html: one.html });
