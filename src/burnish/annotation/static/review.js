// The review desk: an item at a time; accept, send back, decide, or go on. Everything works from the keyboard.

import { call, el, footBar, key, keyList, letter, letterKeys, pressed, Refused, t, tn } from "./dom.js";
import { typeset } from "./math.js";
import { signOf, stepList } from "./steps.js";
import { plain, turn, written } from "./texts.js";
import { controlsOf, strengthWords } from "./widgets.js";

const root = document.getElementById("desk"), live = document.getElementById("live"), keys = document.getElementById("keys");
const path = `/projects/${root.dataset.project}`;
const WHY = { disputed: t("Annotators differ"), sampled: t("Agreed, drawn for a look"), decided: t("Decided; you may decide otherwise"), "": t("Nothing waits here") };
const checks = [];
let item, answer, widget, comment, status, busy = false, shownAt = 0, seen = 0;

function say(text, bad = false) {
  if (!status) return (live.textContent = text);
  status.textContent = text;
  status.classList.toggle("bad", bad);
}

async function load({ after = 0, id = null } = {}) {
  try {
    show(await call("GET", `${path}/review?html=true&after=${after}${id ? `&item=${id}` : ""}`));
  } catch (error) {
    status = null;
    root.replaceChildren(el("p", { class: "error", role: "alert" }, error instanceof Refused ? error.message : t("The server cannot be reached; try again.")));
  }
}

function show(found) {
  busy = false;
  item = found.item;
  if (!item) {
    status = widget = null;
    root.replaceChildren(el("h1", { tabIndex: -1 }, t("Review")), el("p", {}, t("Nothing waits for a reviewer.")));
    return root.querySelector("h1").focus();
  }
  seen = item.item_id;
  shownAt = performance.now();
  answer = structuredClone(item.decision ?? {});
  widget = controlsOf(item.kind, item.asks, item.answers, answer, () => say(""));
  const parts = [el("h1", { tabIndex: -1 }, t("Review"), " ", el("bdi", { class: "hint" }, item.external_id)),
    el("p", { class: "hint" }, [WHY[item.why], item.agreement === null ? null : t("agreement {share} %", { share: Math.round(100 * item.agreement) }),
      tn("{n} item waits", "{n} items wait", found.left)].filter(Boolean).join(" · ")),
    item.scenario.text ? el("section", { class: "card scenario" }, el("h2", {}, t("The annotators' scenario")), el("div", { class: "text", dir: "auto", html: item.scenario.html })) : null,
    el("section", { class: "prompt", "aria-label": t("Prompt") }, el("h2", { class: "away" }, t("Prompt")), item.messages.map((m) => turn(m.role, m))),
    item.answers.length ? el("div", { class: "answers" }, item.answers.map((one, place) => el("section", { class: "answer", "data-place": place, "aria-label": t("Answer {letter}", { letter: letter(place) }) },
      el("h2", {}, el("span", { class: "letter" }, letter(place))), one.steps ? stepList(one, (at) => marks(place, at)) : written(one)))) : null,
    el("section", { class: "card" }, el("h2", {}, t("What annotators said")), tally(), el("ol", { class: "said-list" }, item.said.map(opinion))),
    widget?.node, back(), bar()];
  root.replaceChildren(...parts.filter(Boolean));
  typeset(root);
  for (const node of root.querySelectorAll(".answer > .text, .answer > .trace, .answer > .steps-list")) if (node.scrollHeight > node.clientHeight + 1) node.tabIndex = 0;
  root.querySelector("h1").focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

// One annotator's answer in words: the choice, ratings, flags, marked passages, what was written, why.
function opinion(said, at) {
  checks[at] = el("input", { type: "checkbox", checked: true, "aria-label": t("Send back answer {n}", { n: at + 1 }) });
  const lines = [], asks = { strength: said.scale ?? item.asks.strength };
  if (said.strength !== undefined && said.strength !== null) lines.push(favours(said, asks));
  else if (said.best !== undefined) lines.push(t("Best {best}, worst {worst}", { best: letter(said.best), worst: letter(said.worst) }));
  else if (said.ranks) lines.push(said.ranks.map((rank, place) => `${letter(place)}: ${rank}`).join(", "));
  for (const [name, strength] of Object.entries(said.preferences ?? {})) lines.push(`${name}: ${strengthWords(strength, asks)}`);
  for (const [name, values] of Object.entries(said.ratings ?? {})) lines.push(`${name}: ${values.map((v, p) => `${letter(p)} ${v}`).join(", ")}`);
  const flags = Object.entries(said.flags ?? {}).map(([name, places]) => el("span", { class: "tag" }, t(name), " ", places.map(letter).join(", ")));
  const passages = (said.passages ?? []).map((p) => el("li", {}, el("span", { class: "letter small" }, letter(p.candidate)), " ", el("q", { class: "marked", dir: "auto" }, plain(p.text)), " ", el("bdi", {}, p.note)));
  return el("li", {}, el("label", { class: "check" }, checks[at], `${at + 1}. ${lines.join("; ")}`), flags,
    passages.length ? el("ul", { class: "spans" }, passages) : null,
    said.turns ? el("details", { open: item.said.length === 1 }, el("summary", {}, t("Conversation")), said.turns.map((one) => exchange(one, asks))) : null,
    said.text ? el("details", {}, el("summary", {}, t("Written")), el("p", { class: "said", dir: "auto" }, said.text)) : null,
    said.critique ? el("p", {}, el("q", { dir: "auto" }, said.critique)) : null);
}

// The verdicts on a step, those of the first annotator first.
function marks(place, at) {
  const given = item.said.filter((one) => one.step_verdicts).map((one) => one.step_verdicts[place]?.[at] ?? null);
  return el("p", { class: new Set(given).size > 1 ? "marks differ" : "marks" }, given.map(signOf).join(" "));
}

// The verdicts by criterion and answer, those of the first annotator first; where they differ is marked.
function tally() {
  const given = item.said.filter((one) => one.verdicts);
  if (!given.length) return null;
  const cell = (c, place) => {
    const met = given.map((one) => one.verdicts[c][place]);
    return el("td", { class: new Set(met).size > 1 ? "differ" : null }, met.map((one) => (one ? "✓" : "✗")).join(" "));
  };
  return el("table", { class: "tally" }, el("thead", {}, el("tr", {}, el("td"), item.answers.map((_, place) => el("th", { scope: "col" }, letter(place))))),
    el("tbody", {}, item.asks.criteria.map((criterion, c) => el("tr", {}, el("th", { scope: "row" }, `${c + 1}. `, el("bdi", {}, criterion)), item.answers.map((_, place) => cell(c, place))))));
}

const favours = (choice, asks) => (choice.both_bad ? t("Both are bad") : strengthWords(choice.strength, asks));

// A turn of a chat: what the person wrote, the answers, and the choice; the conversation went on with the framed one.
function exchange(one, asks) {
  return [one.user.text ? turn("user", one.user) : null,
    el("div", { class: "answers" }, one.answers.map((text, place) => el("section", { class: place === one.chosen ? "answer favoured" : "answer", "aria-label": t("Answer {letter}", { letter: letter(place) }) },
      el("h3", {}, el("span", { class: "letter" }, letter(place))), written(text)))),
    el("p", { class: "hint" }, favours(one, asks))];
}

function back() {
  if (!["disputed", "sampled"].includes(item.why)) return null;
  comment = el("textarea", { rows: 2, dir: "auto", maxLength: 4000 });
  return el("label", { class: "card" }, t("Send back with a comment"), " ", el("span", { class: "hint" }, t("to those whose answers are ticked above")), " ", key("r"), comment);
}

function bar() {
  status = el("span", { class: "status", role: "status" });
  const button = (text, name, action, kind = "quiet") => el("button", { type: "button", class: kind, onclick: action }, text, " ", key(name));
  const waits = ["disputed", "sampled"].includes(item.why);
  return footBar(
    button(t("Next"), "n", () => load({ after: seen })),
    item.why === "decided" ? button(t("Take the decision back"), "u", withdraw) : null,
    button(t("Keys"), "?", help, "quiet keyboard"),
    status,
    waits ? button(t("Send back"), "r", sendBack) : null,
    waits ? button(t("Accept"), "a", accept) : null,
    widget && item.why ? button(t("Decide"), "Enter", decide, "button") : null);
}

async function act(method, what, body, done) {
  if (busy) return;
  busy = true;
  try {
    await call(method, `${path}/items/${item.item_id}/${what}`, body);
    await load({ after: seen });
    live.textContent = done;
  } catch (error) {
    busy = false;
    say(error instanceof Refused ? error.message : t("The server cannot be reached; try again."), true);
  }
}
const accept = () => act("POST", "accept", undefined, t("Accepted"));
const withdraw = () => act("DELETE", "decision", undefined, t("The decision is taken back"));
function sendBack() {
  const answers = item.said.filter((_, at) => checks[at].checked).map((one) => one.id);
  if (!answers.length) return say(t("Tick the answers that go back."), true);
  if (!comment.value.trim()) { comment.focus(); return say(t("Say in the comment what to look at."), true); }
  return act("POST", "send-back", { answers, comment: comment.value }, t("Sent back"));
}
function decide() {
  const missing = widget.missing();
  if (missing) return say(missing, true);
  const sent = { seconds: Math.min(86400, (performance.now() - shownAt) / 1000) };
  for (const name of ["strength", "both_bad", "ranks", "ratings", "best", "worst", "verdicts"]) if (answer[name] !== undefined && answer[name] !== null) sent[name] = answer[name];
  return act("POST", "decision", sent, t("Decided"));
}

function help() {
  const list = [...(widget?.help ?? []), ["Enter", t("decide")], ["a", t("accept as it is")], ["r", t("send back with a comment")], ["n", t("the next item")], ["u", t("take a decision back")], ["?", t("these keys")]];
  document.getElementById("key-list").replaceChildren(...keyList(list));
  keys.showModal();
}

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || event.altKey || event.metaKey || event.isComposing || !item) return;
  const typing = event.target.matches("textarea, input:not([type=radio], [type=checkbox])");
  if (event.key === "Escape" && typing) return event.target.blur();
  if (event.key === "Enter" && event.ctrlKey && typing) { event.preventDefault(); return sendBack(); }
  const name = pressed(event);
  if (typing || event.ctrlKey || busy || (name.length === 1 && !letterKeys)) return;
  if (event.key === "Enter" && !event.target.matches("button:not(.chip), a, summary")) { event.preventDefault(); return widget && item.why && decide(); }
  const waits = ["disputed", "sampled"].includes(item.why);
  const known = { n: () => load({ after: seen }), "?": help, a: waits && accept, r: waits && (() => comment.focus()), u: item.why === "decided" && withdraw };
  if (known[name]) { event.preventDefault(); return known[name](); }
  if (widget?.keys(name)) event.preventDefault();
});

load({ id: new URLSearchParams(location.search).get("item") });
