// What the kinds of task ask with. Each widget draws itself from the answer so far, and calls `changed` after a change.
// `keys(name)` takes a key by its name (dom.js, pressed) and returns true if it took it. Places count from 0, in the order on the screen.

import { backwards, el, key, letter, t } from "./dom.js";
import { plain } from "./texts.js";

const SLIGHTLY = [t("A is slightly better"), t("B is slightly better")], BETTER = [t("A is better"), t("B is better")];
const MUCH = [t("A is much better"), t("B is much better")], VASTLY = [t("A is vastly better"), t("B is vastly better")];
const WORDS = { 1: [BETTER], 2: [MUCH, SLIGHTLY], 3: [MUCH, BETTER, SLIGHTLY], 4: [VASTLY, MUCH, BETTER, SLIGHTLY] };

export function strengthWords(strength, asks) {
  if (strength === 0) return t("About the same");
  return WORDS[asks.strength][asks.strength - Math.abs(strength)][strength > 0 ? 0 : 1];
}

// The pairwise scale. `answer.strength` above 0 favours A.
export function scale(asks, answer, changed, { name = "strength" } = {}) {
  const steps = [];
  for (let s = asks.strength; s >= 1; s--) steps.push({ strength: s });
  if (asks.steps % 2) steps.push({ strength: 0 });
  for (let s = 1; s <= asks.strength; s++) steps.push({ strength: -s });
  steps.forEach((step, at) => (step.key = String(at + 1)));
  if (asks.ties && asks.steps % 2 === 0) steps.push({ strength: 0, key: "t" });
  if (asks.both_bad) steps.push({ strength: 0, both_bad: true, key: "b" });
  const inputs = steps.map((step) =>
    el("input", { type: "radio", name, onchange: () => pick(step),
      checked: answer.strength === step.strength && Boolean(answer.both_bad) === Boolean(step.both_bad) }));
  function pick(step) {
    answer.strength = step.strength;
    answer.both_bad = Boolean(step.both_bad);
    inputs[steps.indexOf(step)].checked = true;
    changed();
  }
  const node = el("fieldset", { class: "scale card" }, el("legend", {}, t("Which is better?")),
    el("div", { class: "steps" }, steps.map((step, at) => el("label", { class: "choice" }, inputs[at],
      el("span", {}, step.both_bad ? t("Both are bad") : strengthWords(step.strength, asks)), key(step.key)))));
  return {
    node,
    keys(name) {
      const step = steps.find((one) => one.key === name);
      if (step) { pick(step); inputs[steps.indexOf(step)].focus({ preventScroll: true }); }
      return Boolean(step);
    },
    help: [[`1 – ${asks.strength * 2 + (asks.steps % 2)}`, t("how much better, from A to B")],
      ...(asks.ties && asks.steps % 2 === 0 ? [["t", t("about the same")]] : []), ...(asks.both_bad ? [["b", t("both are bad")]] : [])],
    missing: () => (answer.strength === undefined || answer.strength === null ? t("Say which is better.") : null),
    lead: () => (answer.strength > 0 ? 0 : answer.strength < 0 ? 1 : null),
  };
}

// The whole, and beside it each dimension that the project names: digits fill the marked row and go on to the next that is open.
export function comparison(asks, answer, changed) {
  if (!asks.dimensions.length) return scale(asks, answer, changed);
  answer.preferences ??= {};
  answer.reasons ??= {};
  const overall = scale(asks, answer, () => { changed(); onward(); });
  const rows = asks.dimensions.map((dimension, at) => row(dimension, at));
  let current = 0;

  function row(dimension, at) {
    const steps = [];
    for (let s = asks.strength; s >= -asks.strength; s--) steps.push(s);
    const inputs = steps.map((s) => el("input", { type: "radio", name: `by-${at}`, checked: answer.preferences[dimension.name] === s,
      "aria-label": strengthWords(s, asks), onchange: () => pick(s) }));
    function pick(s) {
      answer.preferences[dimension.name] = s;
      inputs[steps.indexOf(s)].checked = true;
      changed(`${dimension.name}: ${strengthWords(s, asks)}`);
      onward();
    }
    const why = el("input", { type: "text", dir: "auto", maxLength: 2000, placeholder: t("why, if you like"), value: answer.reasons[dimension.name] ?? "",
      "aria-label": t("Why, by {name}", { name: dimension.name }), oninput: (event) => { answer.reasons[dimension.name] = event.target.value; changed(); } });
    const node = el("fieldset", { class: "rating by" }, el("legend", {}, dimension.name, dimension.help ? el("span", { class: "hint" }, ` ${dimension.help}`) : null),
      el("div", { class: "steps" }, steps.map((s, i) => el("label", { class: "choice" }, inputs[i], el("span", { "aria-hidden": "true" }, short(s))))), why);
    node.addEventListener("focusin", () => { current = at + 1; mark(); });
    return { node, pick, steps, inputs, name: dimension.name };
  }
  function short(s) { return s === 0 ? "=" : (s > 0 ? "A" : "B") + "+".repeat(Math.abs(s)); }
  function open(at) { return at === 0 ? overall.missing() : answer.preferences[rows[at - 1].name] === undefined; }
  function onward() {
    const next = [...Array(rows.length + 1).keys()].find((at) => open(at));
    if (next !== undefined) current = next;
    mark();
  }
  function mark() { rows.forEach((one, at) => one.node.classList.toggle("current", at + 1 === current)); overall.node.classList.toggle("current", current === 0); }
  onward();
  return {
    node: el("div", { class: "together" }, overall.node, el("section", { class: "card ratings" }, el("h2", {}, t("And by itself?")), rows.map((one) => one.node))),
    keys(name) {
      const side = { ArrowUp: -1, ArrowDown: 1 }[name];
      if (side) { current = Math.min(rows.length, Math.max(0, current + side)); mark(); return true; }
      if (current === 0 || name === "b") return overall.keys(name);
      const one = rows[current - 1];
      const at = name === "t" ? asks.strength : Number(name) - 1;
      if (!(at in one.steps)) return false;
      one.inputs[at].focus({ preventScroll: true });
      one.pick(one.steps[at]);
      return true;
    },
    help: [...overall.help, ["↑ ↓", t("the whole, or a dimension; digits then go from A to B")]],
    missing: () => overall.missing() ?? (rows.some((_, at) => open(at + 1)) ? t("Compare by each of them.") : null),
    lead: overall.lead,
  };
}

// The best answer, to be edited: what is written is better than all. Winners that changed keep what was written of them.
export function editing(asks, answers, answer, changed, best) {
  const written = answer.text === undefined ? {} : { [answer.corrected]: answer.text };
  let place = null, shown = answer.text !== undefined;
  const area = el("textarea", { rows: 8, dir: "auto", "data-field": "text", oninput: () => { written[place] = area.value; keep(); changed(); } });
  const label = el("span", {});
  const button = el("button", { type: "button", class: "quiet", onclick: () => open() }, t("Edit answer"), " ", label, " ", key("e"));
  const field = el("label", {}, el("span", {}, t("Your better version")), area);
  const node = el("section", { class: "card", hidden: true }, el("p", { class: "hint first" }, asks.edit_winner === "required"
    ? t("Make the better answer better still: change what can be improved.") : t("If you like, make the better answer better still.")), button, field);
  function keep() {
    const text = written[place], own = place === null ? undefined : answers[place].text;
    const edited = text !== undefined && text.trim() && text.trim() !== own.trim();
    if (edited) { answer.text = text; answer.corrected = place; } else { delete answer.text; delete answer.corrected; }
  }
  function open() { if (place === null) return; shown = true; refresh(); area.focus(); }
  function refresh() {
    const now = best();
    if (now !== place) { place = now; if (place !== null) area.value = written[place] ?? answers[place].text; keep(); }
    node.hidden = place === null || Boolean(answers[place].turns);
    label.textContent = place === null ? "" : letter(place);
    field.hidden = !shown;
    button.hidden = shown;
  }
  refresh();
  return { node, open, refresh, missing: () => (asks.edit_winner === "required" && !node.hidden && answer.text === undefined ? t("Edit the better answer.") : null) };
}

// Tiers of answers: by dragging, or with a letter and then a digit or the arrows. Several in one tier are tied.
export function ranking(asks, answers, answer, changed) {
  const count = answers.length;
  answer.ranks ??= Array(count).fill(null);
  let current = Math.max(0, answer.ranks.indexOf(null));
  const chips = answers.map((one, place) => chip(one, place));
  const tiers = [...Array(count + 1).keys()].map((at) => el("li", { class: "tier", "data-tier": at },
    el("span", { class: "place" }, at === count ? t("Not ranked yet") : ordinal(at + 1)), el("span", { class: "away" }, ":")));

  function ordinal(n) { return n === 1 ? t("Best") : n === count ? t("{n} (worst)", { n }) : String(n); }
  function chip(one, place) {
    const made = el("button", { type: "button", class: "chip", "data-place": place },
      letter(place), " ", el("bdi", { class: "snippet" }, plain(one.text).slice(0, 40)));
    made.addEventListener("pointerdown", (event) => drag(event, made, place));
    made.addEventListener("focus", () => { current = place; });
    return made;
  }
  function drag(event, made, place) {
    if (event.button) return;
    made.setPointerCapture(event.pointerId);
    const [x, y] = [event.clientX, event.clientY];
    const over = (e) => document.elementsFromPoint(e.clientX, e.clientY).find((n) => n.classList.contains("tier"));
    const moved = (e) => {
      made.classList.add("dragged");
      made.style.transform = `translate(${e.clientX - x}px, ${e.clientY - y}px)`;
      for (const tier of tiers) tier.classList.toggle("over", tier === over(e));
    };
    const tapped = (e) => e.pointerType === "touch" && Math.hypot(e.clientX - x, e.clientY - y) < 8;
    const ended = (e) => {
      made.removeEventListener("pointermove", moved);
      made.classList.remove("dragged");
      made.style.transform = "";
      for (const tier of tiers) tier.classList.remove("over");
      if (e.type === "pointerup" && tapped(e)) return tap(place);
      const tier = e.type === "pointerup" && over(e);
      if (tier && Number(tier.dataset.tier) < count) move(place, Number(tier.dataset.tier) + 1);
    };
    made.addEventListener("pointermove", moved);
    made.addEventListener("pointerup", ended, { once: true });
    made.addEventListener("pointercancel", ended, { once: true });
  }
  // On a phone answers are tapped from the best to the worst; a second tap takes one out again, and those below move up.
  function tap(place) {
    const rank = answer.ranks[place];
    const next = 1 + Math.max(0, ...answer.ranks.filter((r) => r !== null));
    if (rank === null) return move(place, Math.min(count, next));
    const alone = answer.ranks.filter((r) => r === rank).length === 1;
    answer.ranks[place] = null;
    if (alone) answer.ranks.forEach((r, p) => { if (r !== null && r > rank) answer.ranks[p] = r - 1; });
    draw();
    changed(t("{letter} is not ranked", { letter: letter(place) }));
  }
  function move(place, rank) {
    if (!asks.ties) {
      const other = answer.ranks.findIndex((r, p) => r === rank && p !== place);
      if (other >= 0) answer.ranks[other] = answer.ranks[place];
    }
    answer.ranks[place] = rank;
    draw();
    chips[place].focus();
    changed(t("{letter} is at rank {rank}", { letter: letter(place), rank }));
  }
  function draw() {
    chips.forEach((one, place) => {
      const rank = answer.ranks[place];
      const target = tiers[rank === null ? count : rank - 1];
      if (one.parentElement !== target) target.append(one);
      one.setAttribute("aria-label", `${t("Answer {letter}", { letter: letter(place) })}, ${rank === null ? t("Not ranked yet") : t("rank {rank} of {count}", { rank, count })}`);
    });
    tiers[count].hidden = answer.ranks.every((rank) => rank !== null);
  }
  draw();
  return {
    node: el("fieldset", { class: "card" }, el("legend", {}, t("Rank them")),
      el("p", { class: "hint first" }, t("Tap the best first, then the next; or drag, or type the ranks one after the other, A first; ← and → choose an answer, ↑ and ↓ move it."),
        asks.ties ? " " + t("Answers that are equally good may share a rank.") : ""),
      el("ol", { class: "tiers" }, tiers)),
    keys(name) {
      const now = answer.ranks[current];
      const side = { ArrowLeft: backwards ? 1 : -1, ArrowRight: backwards ? -1 : 1 }[name];
      if (side) { current = (current + side + count) % count; chips[current].focus(); return true; }
      if (name === "ArrowUp") { move(current, Math.max(1, (now ?? count + 1) - 1)); return true; }
      if (name === "ArrowDown") { move(current, Math.min(count, (now ?? 0) + 1)); return true; }
      if (!/^[1-9]$/.test(name)) return false;
      if (Number(name) > count) return true;
      move(current, Number(name));
      const open = [...Array(count).keys()].map((n) => (current + 1 + n) % count).find((place) => answer.ranks[place] === null);
      if (open !== undefined) { current = open; chips[open].focus(); }
      return true;
    },
    help: [[`1 – ${count}`, t("rank of the chosen answer; then the next is chosen")], ["← →", t("choose an answer")], ["↑ ↓", t("move it")]],
    missing: () => (answer.ranks.some((rank) => rank === null) ? t("Give each answer a rank.") : null),
    lead: () => null,
  };
}

// One row of a scale for each attribute and answer; digits fill the marked row and go on to the next.
export function likert(asks, answers, answer, changed) {
  answer.ratings ??= {};
  const rows = [];
  for (const attribute of asks.attributes) {
    answer.ratings[attribute.name] ??= Array(answers.length).fill(null);
    answers.forEach((_, place) => rows.push({ attribute, place, given: answer.ratings[attribute.name] }));
  }
  let current = Math.max(0, rows.findIndex((row) => row.given[row.place] === null));
  for (const [at, row] of rows.entries()) {
    row.inputs = new Map();
    for (let value = row.attribute.low; value <= row.attribute.high; value++) {
      row.inputs.set(value, el("input", { type: "radio", name: `rating-${at}`, checked: row.given[row.place] === value,
        "aria-label": `${row.attribute.name}, ${t("Answer {letter}", { letter: letter(row.place) })}: ${value}`,
        onfocus: () => mark(at), onchange: () => { row.given[row.place] = value; changed(); } }));
    }
    row.node = el("fieldset", { class: "rating" },
      el("legend", {}, row.attribute.name, answers.length > 1 ? [" ", el("span", { class: "letter" }, letter(row.place))] : null),
      [...row.inputs].map(([value, input]) => el("label", { class: "choice" }, input, String(value))));
  }
  function mark(at) {
    current = at;
    rows.forEach((row, n) => row.node.classList.toggle("current", n === at));
  }
  mark(current);
  return {
    node: el("section", { class: "card" }, el("h2", {}, t("Rate")),
      el("div", { class: "ratings" }, asks.attributes.map((attribute) => [
        attribute.help ? el("p", { class: "hint" }, `${attribute.name}: ${attribute.help}`) : null,
        rows.filter((row) => row.attribute === attribute).map((row) => row.node)]))),
    keys(name) {
      const step = { ArrowDown: 1, ArrowUp: -1 }[name];
      if (step) { mark(Math.min(rows.length - 1, Math.max(0, current + step))); return true; }
      if (!/^[0-9]$/.test(name)) return false;
      const row = rows[current];
      const value = name === "0" && row.attribute.low > 0 ? 10 : Number(name);
      const input = row.inputs.get(value);
      if (!input) return true;
      input.checked = true;
      row.given[row.place] = value;
      mark(Math.min(rows.length - 1, current + 1));
      rows[current].node.scrollIntoView({ block: "nearest" });
      changed(`${row.attribute.name}, ${letter(row.place)}: ${value}`);
      return true;
    },
    help: [["0 – 9", t("rate the marked row")], ["↑ ↓", t("another row")]],
    missing: () => (rows.some((row) => row.given[row.place] === null) ? t("Rate each answer.") : null),
    lead: () => null,
  };
}

// The best and the worst: the first digit is the best, the second the worst; arrows go back to a row.
export function bestWorst(answers, answer, changed) {
  const names = ["best", "worst"];
  const rows = names.map((name, at) => {
    const inputs = answers.map((_, place) => el("input", { type: "radio", name: `bw-${name}`, checked: answer[name] === place,
      "aria-label": `${at === 0 ? t("The best") : t("The worst")}: ${letter(place)}`, onchange: () => pick(at, place) }));
    const node = el("fieldset", { class: "rating" }, el("legend", {}, at === 0 ? t("The best") : t("The worst")),
      inputs.map((input, place) => el("label", { class: "choice" }, input, letter(place), key(String(place + 1)))));
    node.addEventListener("focusin", () => { current = at; mark(); });
    return { node, inputs };
  });
  let current = answer.best === undefined ? 0 : 1;
  function pick(at, place) {
    const other = names[1 - at];
    if (answer[other] === place) { delete answer[other]; rows[1 - at].inputs[place].checked = false; }
    answer[names[at]] = place;
    rows[at].inputs[place].checked = true;
    changed(`${at === 0 ? t("The best") : t("The worst")}: ${letter(place)}`);
    current = answer[names[1 - at]] === undefined ? 1 - at : at;
    mark();
  }
  function mark() { rows.forEach((row, at) => row.node.classList.toggle("current", at === current)); }
  mark();
  return {
    node: el("section", { class: "card scale" }, el("h2", {}, t("Which is the best, and which the worst?")), rows.map((row) => row.node)),
    keys(name) {
      const side = { ArrowUp: 0, ArrowDown: 1 }[name];
      if (side !== undefined) { current = side; mark(); return true; }
      const place = /^[1-9]$/.test(name) ? Number(name) - 1 : -1;
      if (!(place in answers)) return false;
      pick(current, place);
      return true;
    },
    help: [[`1 – ${answers.length}`, t("the best, then the worst")], ["↑ ↓", t("another row")]],
    missing: () => (answer.best === undefined ? t("Say which is the best.") : answer.worst === undefined ? t("Say which is the worst.") : null),
    lead: () => answer.best ?? null,
  };
}

// A rubric: of each criterion and answer whether it is met; 1 and 2 fill the marked row and go on to the next.
export function rubric(asks, answers, answer, changed) {
  answer.verdicts ??= asks.criteria.map(() => Array(answers.length).fill(null));
  const rows = asks.criteria.flatMap((criterion, c) => answers.map((_, place) => ({ criterion, c, place })));
  let current = Math.max(0, rows.findIndex((row) => open(row)));
  function open(row) { return answer.verdicts[row.c][row.place] === null; }
  for (const [at, row] of rows.entries()) {
    row.inputs = [true, false].map((met) => el("input", { type: "radio", name: `criterion-${at}`, checked: answer.verdicts[row.c][row.place] === met,
      "aria-label": `${row.criterion}, ${t("Answer {letter}", { letter: letter(row.place) })}: ${met ? t("met") : t("not met")}`, onfocus: () => mark(at), onchange: () => pick(at, met) }));
    row.node = el("div", { class: "rating verdict", role: "group", "aria-label": t("Answer {letter}", { letter: letter(row.place) }) }, el("span", { class: "letter" }, letter(row.place)),
      row.inputs.map((input, n) => el("label", { class: "choice" }, input, n === 0 ? t("met") : t("not met"), key(String(n + 1)))));
  }
  function pick(at, met) {
    const row = rows[at];
    answer.verdicts[row.c][row.place] = met;
    row.inputs[met ? 0 : 1].checked = true;
    changed(`${letter(row.place)}: ${met ? t("met") : t("not met")}`);
  }
  function mark(at) { current = at; rows.forEach((row, n) => row.node.classList.toggle("current", n === at)); }
  mark(current);
  return {
    node: el("section", { class: "card" }, el("h2", {}, t("Does each answer meet it?")), el("ol", { class: "criteria" }, asks.criteria.map((criterion, c) =>
      el("li", {}, el("p", {}, el("bdi", {}, criterion)), el("div", { class: "verdicts" }, rows.filter((row) => row.c === c).map((row) => row.node)))))),
    keys(name) {
      const step = { ArrowDown: 1, ArrowUp: -1 }[name];
      if (step) { mark(Math.min(rows.length - 1, Math.max(0, current + step))); return true; }
      if (name !== "1" && name !== "2") return false;
      pick(current, name === "1");
      mark(Math.min(rows.length - 1, current + 1));
      rows[current].node.scrollIntoView({ block: "nearest" });
      return true;
    },
    help: [["1", t("met")], ["2", t("not met")], ["↑ ↓", t("another row")]],
    missing: () => (rows.some(open) ? t("Say of each criterion whether each answer meets it.") : null),
    lead: () => null,
  };
}

// The widget of a kind of task that chooses among answers; null where there is nothing to choose.
export function controlsOf(kind, asks, answers, answer, changed) {
  if (kind === "pairwise") return comparison(asks, answer, changed);
  if (kind === "ranking") return ranking(asks, answers, answer, changed);
  if (kind === "best_worst") return bestWorst(answers, answer, changed);
  if (kind === "rubric") return rubric(asks, answers, answer, changed);
  return kind === "likert" ? likert(asks, answers, answer, changed) : null;
}

// Checkboxes under an answer.
export function flags(asks, place, answer, changed, first) {
  answer.flags ??= {};
  return el("fieldset", { class: "flags" }, el("legend", {}, t("Flag {letter}", { letter: letter(place) }), " ", first ? key("f") : null), asks.flags.map((name) =>
    el("label", { class: "check" }, el("input", { type: "checkbox", checked: answer.flags[name]?.includes(place),
      onchange: (event) => {
        const others = (answer.flags[name] ?? []).filter((p) => p !== place);
        answer.flags[name] = event.target.checked ? [...others, place].sort() : others;
        if (!answer.flags[name].length) delete answer.flags[name];
        changed();
      } }), t(name))));
}

// Free text.
export function writing(label, answer, changed, { field = "critique", rows = 3, hint = "", shortcut = "c", fresh = "" } = {}) {
  const area = el("textarea", { rows, dir: "auto", value: answer[field] ?? fresh, "data-field": field,
    oninput: (event) => { answer[field] = event.target.value; changed(); } });
  return { node: el("label", { class: "card" }, label, " ", hint ? el("span", { class: "hint" }, hint) : null, " ", key(shortcut), area), area };
}
