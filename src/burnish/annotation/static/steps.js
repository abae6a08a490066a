// Verdicts step by step, inside the answers: each step is right, neutral or wrong. Steps go on from answer to answer.

import { el, key, letter, t } from "./dom.js";
import { turn } from "./texts.js";

const VERDICTS = [{ value: 1, key: "r", sign: "✓", word: t("right") }, { value: 0, key: "o", sign: "–", word: t("neutral") }, { value: -1, key: "w", sign: "✗", word: t("wrong") }];
export const signOf = (value) => VERDICTS.find((one) => one.value === value)?.sign ?? "·";

const content = (step) => step.turns ? el("div", { class: "trace" }, step.turns.map((m) => turn(m.role, m))) : el("div", { class: "text", dir: "auto", html: step.html });
// An answer as the list of its steps; `below(at)` is what stands under one.
export const stepList = (one, below) => el("ol", { class: "steps-list" }, one.steps.map((step, at) => el("li", { class: "step" }, content(step), below(at))));

export function stepper(answers, answer, changed, required) {
  const fits = answer.step_verdicts?.length === answers.length && answers.every((one, place) => answer.step_verdicts[place].length === one.steps.length);
  if (!fits) answer.step_verdicts = answers.map((one) => Array(one.steps.length).fill(null));
  const rows = answers.flatMap((one, place) => one.steps.map((_, at) => ({ place, at })));
  const isOpen = (row) => answer.step_verdicts[row.place][row.at] === null;
  let current = Math.max(0, rows.findIndex(isOpen));
  rows.forEach((row, n) => {
    const name = t("Step {n} of answer {letter}", { n: row.at + 1, letter: letter(row.place) });
    row.inputs = VERDICTS.map((one) => el("input", { type: "radio", name: `step-${n}`, checked: answer.step_verdicts[row.place][row.at] === one.value,
      "aria-label": `${name}: ${one.word}`, onfocus: () => mark(n), onchange: () => pick(n, one),
      onclick: () => { if (row.before === one.value) clear(n); row.before = answer.step_verdicts[row.place][row.at]; } }));
    row.before = answer.step_verdicts[row.place][row.at];
    row.node = el("div", { class: "step-verdict", role: "radiogroup", "aria-label": name }, VERDICTS.map((one, v) =>
      el("label", { class: `choice ${["right", "neutral", "wrong"][v]}` }, row.inputs[v], el("span", { "aria-hidden": "true" }, `${one.sign} `), el("span", {}, one.word), " ", key(one.key))));
  });
  function pick(n, one) {
    const row = rows[n];
    answer.step_verdicts[row.place][row.at] = one.value;
    row.inputs[VERDICTS.indexOf(one)].checked = true;
    changed(`${letter(row.place)} ${row.at + 1}: ${one.word}`);
  }
  function clear(n) {
    const row = rows[n];
    answer.step_verdicts[row.place][row.at] = null;
    for (const input of row.inputs) input.checked = false;
    changed(t("no verdict"));
  }
  function mark(n) {
    current = n;
    rows.forEach((row, at) => row.node.parentElement?.classList.toggle("current", at === n));
  }
  function go(n) {
    mark(Math.min(rows.length - 1, Math.max(0, n)));
    rows[current]?.node.parentElement.scrollIntoView({ block: "nearest" });
  }
  return {
    node: (place) => stepList(answers[place], (at) => rows.find((row) => row.place === place && row.at === at).node),
    begin: () => mark(current),
    keys(name) {
      if (!rows.length) return false;
      const side = { j: 1, k: -1 }[name];
      if (side) { go(current + side); return true; }
      const one = VERDICTS.find((verdict) => verdict.key === name);
      if (!one) return false;
      if (answer.step_verdicts[rows[current].place][rows[current].at] === one.value) clear(current);
      else { pick(current, one); go(current + 1); }
      return true;
    },
    help: [["r", t("the step is right")], ["o", t("the step is neutral")], ["w", t("the step is wrong")], ["j k", t("the next step, the one before")]],
    missing() {
      const first = required ? rows.findIndex(isOpen) : -1;
      if (first < 0) return null;
      go(first);
      return t("Mark each step of each answer as right, neutral or wrong.");
    },
  };
}
