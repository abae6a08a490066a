// Marking stretches of an answer: by dragging over its plain text, or sentence by sentence with the keyboard.
// Offsets count characters (code points) of the raw text, as the server does.

import { backwards, el, letter, t } from "./dom.js";
import { typeset } from "./math.js";
import { piece, plain } from "./texts.js";

const BEFORE = "previousElementSibling", AFTER = "nextElementSibling";
const points = (text) => [...text].length;

function sentences(text) {
  const found = text.match(/!\[[^\]\n]*\]\(image:[0-9a-f]{64}\.\w+\)\s*|[^.!?\n]+[.!?]*["')\]]*\s*|[.!?\n]+\s*/g) ?? [];
  return found.join("") === text ? found : [text];
}

export function marker(one, place, answer, changed) {
  answer.spans ??= [];
  const shown = el("div", { class: "text marking", dir: "auto", tabindex: -1 });
  const list = el("ul", { class: "spans" });
  const own = () => answer.spans.filter((span) => span.place === place);

  function toggle(start, end) {
    const at = answer.spans.findIndex((span) => span.place === place && span.start === start && span.end === end);
    if (at >= 0) answer.spans.splice(at, 1);
    else answer.spans.push({ place, start, end, note: "" });
    draw();
    changed(at >= 0 ? t("mark taken away") : t("marked"));
  }
  function draw() {
    const focused = [...shown.children].indexOf(document.activeElement);
    let offset = 0;
    shown.replaceChildren(...sentences(one.text).map((sentence) => {
      const start = offset;
      offset += points(sentence);
      const end = start + points(sentence.trimEnd());
      const marked = own().some((span) => span.start < end && span.end > start);
      const press = () => { if (end > start) toggle(start, end); };
      return el("span", { class: marked ? "sentence marked" : "sentence", tabindex: 0, role: "checkbox", "aria-checked": String(marked), "aria-label": plain(sentence),
        onclick: () => { if (document.getSelection().isCollapsed) press(); },
        onkeydown: (event) => {
          const step = { ArrowRight: backwards ? BEFORE : AFTER, ArrowDown: AFTER, ArrowLeft: backwards ? AFTER : BEFORE, ArrowUp: BEFORE }[event.key];
          if (event.key === " " || event.key === "Enter") press();
          else if (step) event.target[step]?.focus();
          else return;
          event.preventDefault();
          event.stopPropagation();
        } }, piece(sentence));
    }));
    typeset(shown);
    if (focused >= 0) shown.children[focused]?.focus();
    const letters = [...one.text];
    list.replaceChildren(...own().map((span) => el("li", {}, el("q", { dir: "auto" }, plain(letters.slice(span.start, span.end).join(""))),
      el("input", { value: span.note, dir: "auto", placeholder: t("what is wrong here?"), maxLength: 2000, "aria-label": t("Note on the marked part of {letter}", { letter: letter(place) }),
        oninput: (event) => { span.note = event.target.value; changed(); } }),
      el("button", { type: "button", class: "quiet", onclick: () => toggle(span.start, span.end) }, t("Take away")))));
  }
  shown.addEventListener("mouseup", () => {
    const selection = document.getSelection();
    if (selection.isCollapsed || !shown.contains(selection.anchorNode) || !shown.contains(selection.focusNode)) return;
    const range = selection.getRangeAt(0);
    const before = document.createRange();
    before.selectNodeContents(shown);
    before.setEnd(range.startContainer, range.startOffset);
    const start = points(before.toString());
    const end = start + points(range.toString());
    selection.removeAllRanges();
    if (end > start) toggle(start, end);
  });
  draw();
  return { shown, list };
}
