// The annotator's page: fetches a task, draws it, keeps drafts, sends the answer, goes on. Everything works from the keyboard.

import { call, callUntilHeard, el, key, letter, Refused, root as prefix } from "./dom.js";
import { marker } from "./spans.js";
import { comparison, editing, flags, likert, ranking, scale, strengthWords, writing } from "./widgets.js";

const root = document.getElementById("task");
const live = document.getElementById("live");
const project = root.dataset.project;
const dialogs = Object.fromEntries(["guidelines", "keys", "skip"].map((id) => [id, document.getElementById(id)]));
const TITLES = { pairwise: "Compare two answers", ranking: "Rank the answers", likert: "Rate the answers",
  demonstration: "Write an answer", correction: "Correct an answer", chat: "Talk with the model" };
const PARTS = { training: "Training: you see after each task what was expected.", qualification: "Test: these tasks decide whether you go on to the work." };

let task, answer, widget, editor, marking, status, submitButton, busy = false, saving, dirty = false, seconds = 0, shownAt = 0, feedbackOpen = false, frozen = false;

// ---- the clock: time in which the page was to be seen
const elapsed = () => seconds + (document.hidden || !shownAt ? 0 : (performance.now() - shownAt) / 1000);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) { seconds = elapsedBefore(); shownAt = 0; if (dirty) save({ keepalive: true }); }
  else shownAt = performance.now();
});
function elapsedBefore() { return seconds + (shownAt ? (performance.now() - shownAt) / 1000 : 0); }

function say(text, bad = false) {
  if (!status) return;
  status.textContent = text;
  status.classList.toggle("bad", bad);
}

// ---- guidelines: when they change, open pages say so; who closes them has read them
let guidelines = Number(root.dataset.guidelines), guidelinesRead = root.dataset.read === "yes";
const news = document.getElementById("news");
async function guidelinesAt(version) {
  if (version <= guidelines) return;
  const found = await call("GET", `/projects/${project}/guidelines?html=true`);
  guidelines = found.version;
  guidelinesRead = found.read;
  document.getElementById("guidelines-text").innerHTML = found.html || "This project has no guidelines.";
  news.hidden = found.read;
}
async function guidelinesSeen() {
  news.hidden = true;
  if (guidelinesRead || !guidelines) return;
  guidelinesRead = true;
  await call("POST", `/projects/${project}/guidelines/read`, { version: guidelines }).catch(() => { guidelinesRead = false; });
}
dialogs.guidelines.addEventListener("close", guidelinesSeen);
document.getElementById("read-news").addEventListener("click", () => open("guidelines"));
setInterval(() => {
  if (!document.hidden) call("GET", `/projects/${project}/guidelines`).then((found) => guidelinesAt(found.version)).catch(() => {});
}, 60000);

// ---- drafts
function changed(spoken) {
  dirty = true;
  remember();
  if (typeof spoken === "string") live.textContent = spoken;
  editor?.refresh();
  favour();
  say("");
  clearTimeout(saving);
  saving = setTimeout(save, 700);
}
// Until the server has it, what is written is kept in the browser too: a crash or a lost network loses nothing.
const copyOf = (lease) => `burnish-draft-${root.dataset.user}-${lease}`;
function remember() {
  try { localStorage.setItem(copyOf(task.lease), JSON.stringify({ answer, seconds: elapsed() })); } catch { /* full, or not allowed */ }
}
function forget(lease) {
  try { localStorage.removeItem(copyOf(lease)); } catch { /* not allowed */ }
}
function remembered(lease) {
  try { return JSON.parse(localStorage.getItem(copyOf(lease))); } catch { return null; }
}
async function save({ keepalive = false } = {}) {
  clearTimeout(saving);
  if (!task || busy || frozen) return;
  dirty = false;
  const lease = task.lease;
  try {
    await call("PUT", `/leases/${lease}/draft`, { content: { answer, seconds: elapsed() } }, { keepalive });
    if (!dirty) forget(lease);
    if (task?.lease === lease && !dirty && !busy) say("Draft saved");
  } catch (error) {
    dirty = true;
    if (error instanceof Refused && error.status === 409) return lost(error.message);
    if (task?.lease === lease) { say("The draft is not saved yet: the server cannot be reached.", true); saving = setTimeout(save, 3000); }
  }
}
setInterval(() => { if (task && !document.hidden) save(); }, 240000);
window.addEventListener("beforeunload", (event) => { if (dirty) { save({ keepalive: true }); event.preventDefault(); } });

// ---- fetching
async function next() {
  task = null;
  try {
    show(await callUntilHeard("POST", `/projects/${project}/next?html=true`, {}, () => say("The server cannot be reached; trying again …", true)));
  } catch (error) {
    finished("You cannot go on here", error.message);
  }
}
function finished(title, text) {
  task = null;
  status = null;
  frozen = true;
  root.replaceChildren(el("section", { class: "card narrow" }, el("h1", { tabIndex: -1 }, title), el("p", {}, text),
    el("p", { class: "row" }, root.dataset.crowd === "yes" ? el("a", { class: "button", href: `${prefix}/projects/${project}/done` }, "Finish") : null,
      el("button", { type: "button", class: "button", onclick: start }, "Look again"),
      el("button", { type: "button", class: "quiet", onclick: undo }, "Undo my last answer ", key("u")))));
  root.querySelector("h1").focus();
}
function lost(message) {
  const written = [answer?.text, answer?.critique].filter((text) => text?.trim());
  task = null;
  frozen = true;
  root.replaceChildren(el("section", { class: "card narrow" }, el("h1", {}, "This task is no longer yours"), el("p", {}, message),
    written.length ? el("p", {}, "What you wrote is kept, here and on the server:") : null,
    written.map((text) => el("textarea", { readOnly: true, rows: 6, value: text, "aria-label": "What you wrote" })),
    el("button", { type: "button", class: "button", onclick: start }, "Next task")));
}
function start() { frozen = false; busy = false; return next(); }

// ---- drawing
function show(found) {
  busy = false;
  frozen = false;
  feedbackOpen = false;
  if (found === null) return finished("All done for now", "There are no tasks for you at the moment. Thank you!");
  task = found;
  const unsaved = remembered(found.lease);
  const draft = unsaved ?? found.draft ?? {};
  answer = structuredClone(draft.answer ?? {});
  if (answer.skipped) answer = {};
  seconds = draft.seconds ?? 0;
  shownAt = document.hidden ? 0 : performance.now();
  dirty = unsaved !== null;
  draw();
  if (dirty) save();
  root.querySelector("h1").focus({ preventScroll: true });
  window.scrollTo(0, 0);
  if (found.progress.done === 0 && !sessionStorage.getItem(`guidelines-${project}`)) {
    sessionStorage.setItem(`guidelines-${project}`, "seen");
    open("guidelines");
  } else if (!guidelinesRead && guidelines > 1) news.hidden = false;
  guidelinesAt(found.guidelines_version).catch(() => {});
}
function draw() {
  const { kind, asks } = task;
  widget = editor = null;
  marking = [];
  const parts = [el("h1", { tabIndex: -1 }, TITLES[kind])];
  if (PARTS[task.part]) parts.push(el("p", { class: "banner" }, PARTS[task.part]));
  if (task.messages.length) parts.push(el("section", { class: "prompt", "aria-label": "Prompt" }, task.messages.map((m) => turn(m.role, m))));
  if (kind === "chat") parts.push(...chat());
  else {
    if (task.answers.length) parts.push(el("div", { class: "answers" }, task.answers.map(card)));
    parts.push(...controls(kind, asks));
    parts.push(flagging());
  }
  if (task.answers.length && asks.critique !== "off") {
    const why = writing("Why?", answer, changed, { hint: asks.critique === "required" ? "asked for here" : "if you like" });
    parts.push(why.node);
  }
  parts.push(bar());
  root.replaceChildren(...parts.filter(Boolean));
  showProgress();
  favour();
  // What scrolls inside its column must be reached by keyboard too.
  for (const node of root.querySelectorAll(".answer > .text, .answer > .trace")) if (node.scrollHeight > node.clientHeight + 1) node.tabIndex = 0;
}
function turn(role, m) {
  const thought = m.reasoning && el("details", { class: "thought" }, el("summary", {}, "Thought"), el("div", { class: "text", dir: "auto", html: m.reasoning.html }));
  const said = !m.text ? null : role === "tool" ? el("pre", { class: "result", dir: "auto", tabIndex: 0 }, m.text) : el("div", { class: "text", dir: "auto", html: m.html });
  return el("div", { class: `turn ${role}` }, el("span", { class: "role" }, role, m.tool ? [": ", el("bdi", {}, m.tool)] : null),
    thought, said, (m.calls ?? []).map((one) => el("pre", { class: "call", tabIndex: 0 }, one)));
}
const written = (one) => one.turns ? el("div", { class: "trace" }, one.turns.map((m) => turn(m.role, m))) : el("div", { class: "text", dir: "auto", html: one.html });

function card(one, place) {
  const text = written(one);
  const head = el("h2", {}, el("span", { class: "letter" }, letter(place)), el("span", { class: "away" }, `Answer ${letter(place)}`));
  const node = el("section", { class: "answer", "data-place": place, "aria-label": `Answer ${letter(place)}` }, head, text);
  if (task.asks.critique !== "off") {
    const made = marker(one, place, answer, changed);
    let on = false;
    const button = el("button", { type: "button", class: "quiet small", "aria-pressed": "false", onclick: () => toggle(!on) },
      "Mark", el("span", { class: "away" }, ` a passage of ${letter(place)}`), place === 0 ? [" ", key("m")] : null);
    function toggle(to) {
      on = to;
      button.setAttribute("aria-pressed", String(on));
      (on ? text : made.shown).replaceWith(on ? made.shown : text);
      if (on) made.shown.querySelector(".sentence")?.focus({ preventScroll: true });
    }
    marking.push({ toggle, isOn: () => on });
    head.after(button);
    node.append(made.list);
  }
  return node;
}
function flagging() {
  if (!task.asks.flags.length || !task.answers.length) return null;
  return el("div", { class: "answers" }, task.answers.map((_, place) => flags(task.asks, place, answer, changed, place === 0)));
}
function controls(kind, asks) {
  if (kind === "pairwise") widget = comparison(asks, answer, changed);
  else if (kind === "ranking") widget = ranking(asks, task.answers, answer, changed);
  else if (kind === "likert") widget = likert(asks, task.answers, answer, changed);
  else if (kind === "demonstration") {
    const made = writing("Your answer", answer, changed, { field: "text", rows: 10, hint: "Markdown", shortcut: "e" });
    widget = text(made, () => (answer.text?.trim() ? null : "Write an answer."));
  } else if (kind === "correction") widget = correction();
  if (asks.edit_winner !== "off") editor = editing(asks, task.answers, answer, changed, best);
  return [widget.node, editor?.node];
}
// The place of the one best answer; null where there is none yet, or where several share it.
function best() {
  if (task.kind === "pairwise") return widget.lead();
  if (!answer.ranks || answer.ranks.includes(null)) return null;
  const first = answer.ranks.filter((rank) => rank === Math.min(...answer.ranks));
  return first.length === 1 ? answer.ranks.indexOf(first[0]) : null;
}
const text = (made, missing) => ({ node: made.node, keys: () => false, missing, lead: () => answer.corrected ?? null, area: made.area,
  help: [["e", "write"], ["Esc", "leave the text"]] });

function correction() {
  const many = task.answers.length > 1;
  if (!many) answer.corrected = 0;
  const original = () => task.answers[answer.corrected]?.text ?? "";
  const made = writing("Corrected answer", answer, changed, { field: "text", rows: 10, hint: "change what is wrong, leave the rest", shortcut: "e", fresh: original() });
  const pick = (place) => {
    const untouched = !made.area.value || task.answers.some((one) => one.text === made.area.value);
    answer.corrected = place;
    radios[place].checked = true;
    if (untouched) { made.area.value = original(); answer.text = original(); }
    changed();
  };
  const radios = task.answers.map((_, place) => el("input", { type: "radio", name: "corrected", checked: answer.corrected === place, onchange: () => pick(place) }));
  const choice = many && el("fieldset", {}, el("legend", {}, "Which one do you correct?"), el("div", { class: "scale" }, el("div", { class: "steps" },
    radios.map((radio, place) => el("label", { class: "choice" }, radio, letter(place), key(String(place + 1)))))));
  const wanted = text(made, () => answer.corrected === undefined || answer.corrected === null ? "Say which answer you correct."
    : !answer.text?.trim() || answer.text.trim() === original().trim() ? "Change what is wrong, or skip the task." : null);
  wanted.node = el("section", {}, choice || null, made.node);
  wanted.keys = (event) => {
    const place = Number(event.key) - 1;
    if (!many || !(place in task.answers)) return false;
    pick(place);
    return true;
  };
  if (many) wanted.help.unshift([`1 – ${task.answers.length}`, "which answer you correct"]);
  return wanted;
}

// ---- chat
function chat() {
  const parts = [];
  const open = task.chat.length > 0 && task.chat.at(-1).chosen === null;
  task.chat.forEach((one, at) => {
    if (one.user.text) parts.push(turn("user", one.user));
    if (one.chosen !== null) parts.push(turn("assistant", one.answers[one.chosen]));
    else if (at === task.chat.length - 1) parts.push(el("div", { class: "answers" }, one.answers.map((a, place) =>
      el("section", { class: "answer", "data-place": place, "aria-label": `Answer ${letter(place)}` },
        el("h2", {}, el("span", { class: "letter" }, letter(place)), el("span", { class: "away" }, `Answer ${letter(place)}`)), written(a)))));
  });
  if (open) {
    const choice = {};
    const asking = scale(task.asks, choice, () => { favour(); say(""); });
    widget = { ...asking, missing: () => "Choose first, then go on.", step: async () => {
      if (asking.missing()) return say(asking.missing(), true);
      await chatCall("choice", { strength: choice.strength, both_bad: Boolean(choice.both_bad) });
    } };
    parts.push(asking.node);
  } else if (!task.chat.length && ["user", "tool"].includes(task.messages.at(-1)?.role)) {
    const asked = el("p", { class: "card" }, "The model answers first; choose between its two answers, then go on.");
    widget = { node: asked, keys: () => false, lead: () => null, help: [["Enter", "let the model answer"]], missing: () => "Let the model answer first.",
      step: async () => { say("The model is writing …"); await chatCall("chat", { text: "" }); } };
    parts.push(asked);
  } else {
    const left = Math.max(0, task.asks.turns - task.chat.length);
    const made = writing(task.chat.length ? "Go on" : "Begin the conversation", answer, changed, { field: "say", rows: 3, shortcut: "e",
      hint: left ? `at least ${left} more ${left === 1 ? "turn" : "turns"}` : "or submit, to finish" });
    widget = { node: made.node, area: made.area, keys: () => false, lead: () => null, help: [["e", "write"], ["Ctrl Enter", "send"]],
      missing: () => (left ? `The conversation needs ${left} more ${left === 1 ? "turn" : "turns"}.` : null),
      step: async () => {
        const words = made.area.value.trim();
        if (!words) return say("Write something first.", true);
        say("The model is writing …");
        await chatCall("chat", { text: words });
      }, wantsStep: () => Boolean(made.area.value.trim()) };
    parts.push(made.node);
  }
  return parts;
}
async function chatCall(what, body) {
  if (busy) return;
  busy = true;
  clearTimeout(saving);
  try {
    const found = await call("POST", `/leases/${task.lease}/${what}?html=true`, body);
    seconds = elapsed();
    shownAt = performance.now();
    busy = false;
    delete answer.say;
    task = found;
    draw();
    (what === "chat" ? root.querySelector(".answers") : widget.area)?.scrollIntoView({ block: "center" });
    if (what === "choice") widget.area.focus();
    live.textContent = what === "chat" ? "Two answers are there; choose." : "Chosen. Go on.";
  } catch (error) {
    busy = false;
    say(error instanceof Refused ? error.message : "The server cannot be reached; try again.", true);
  }
}

function bar() {
  status = el("span", { class: "status", role: "status" });
  submitButton = el("button", { type: "button", class: "button", onclick: () => submit() }, task.kind === "chat" ? "Go on " : "Submit ", key(widget?.area ? "Ctrl Enter" : "Enter"));
  return el("div", { class: "bar" },
    el("button", { type: "button", class: "quiet", onclick: undo }, "Undo ", key("u")),
    el("button", { type: "button", class: "quiet", onclick: () => open("skip") }, "Skip ", key("s")),
    status,
    task.kind === "chat" && widget.area ? el("button", { type: "button", class: "quiet", onclick: () => submit({ finish: true }) }, "Finish ", key("f")) : null,
    submitButton);
}
function favour() {
  const lead = widget?.lead?.() ?? null;
  for (const node of root.querySelectorAll(".answer[data-place]")) node.classList.toggle("favoured", Number(node.dataset.place) === lead);
}
function showProgress() {
  const { done, of } = task.progress;
  const whole = of ? `${done} of ${of} done` : `${done} done`;
  const share = task.part === "work" && !of ? ` · project ${Math.round(100 * root.dataset.share)} %` : "";
  document.getElementById("progress").textContent = `${{ training: "Training: ", qualification: "Test: " }[task.part] ?? ""}${whole}${share}`;
}

// ---- sending
function submission() {
  const fields = { pairwise: ["strength", "both_bad", "preferences", "reasons", "text", "corrected"], ranking: ["ranks", "text", "corrected"], likert: ["ratings"], demonstration: ["text"], correction: ["text", "corrected"], chat: [] }[task.kind];
  const sent = { seconds: Math.min(86400, elapsed()) };
  for (const name of [...fields, "flags", "critique", "spans"]) if (answer[name] !== undefined && answer[name] !== null) sent[name] = answer[name];
  return sent;
}
async function submit({ finish = false } = {}) {
  if (!task || busy) return;
  if (feedbackOpen) return next();
  if (task.kind === "chat" && widget.step && !finish && (!widget.area || widget.wantsStep() || widget.missing())) return widget.step();
  const missing = widget.missing() ?? editor?.missing();
  if (missing) return say(missing, true);
  if (task.asks.critique === "required" && task.answers.length && !answer.critique?.trim() && !answer.spans?.length) return say("Say why, or mark what is wrong.", true);
  await send(submission());
}
async function send(body) {
  busy = true;
  clearTimeout(saving);
  submitButton.disabled = true;
  say("Sending …");
  try {
    const found = await callUntilHeard("POST", `/leases/${task.lease}/answer?html=true`, body, () => say("The server cannot be reached; trying again. Your answer is safe on this page.", true));
    dirty = false;
    forget(task.lease);
    if (found.feedback) {
      live.textContent = "Recorded";
      return feedback(found.feedback);
    }
    await next();
    live.textContent = "Recorded"; // once the next task is there: whoever is told so may type at once
  } catch (error) {
    busy = false;
    submitButton.disabled = false;
    if (error instanceof Refused && (error.status === 409 || error.status === 404)) return lost(error.message);
    say(error.message, true);
  }
}
function feedback(found) {
  busy = false;
  feedbackOpen = true;
  frozen = true;
  const expected = found.expected;
  const lines = [];
  if (expected.strength !== undefined) lines.push(expected.both_bad ? "Both are bad" : strengthWords(expected.strength, task.asks));
  if (expected.ranks) lines.push(expected.ranks.map((rank, place) => `${letter(place)}: ${rank}`).join(", "));
  for (const [name, values] of Object.entries(expected.ratings ?? {})) lines.push(`${name}: ${values.map((v, p) => `${letter(p)} ${v}`).join(", ")}`);
  for (const [name, places] of Object.entries(expected.flags ?? {})) lines.push(`“${name}”: ${places.map(letter).join(", ") || "none"}`);
  const node = el("section", { class: found.right ? "card feedback" : "card feedback wrong", tabIndex: -1 },
    el("h2", {}, found.right ? "Right." : `Not quite: ${Math.round(100 * found.score)} % right.`),
    lines.length ? el("p", {}, "Expected: ", lines.join("; "), ".") : null,
    el("div", { class: "text", dir: "auto", html: found.explanation.html }),
    el("p", { class: "row" }, el("button", { type: "button", class: "button", onclick: () => next() }, "Next task ", key("Enter"))));
  root.querySelector(".bar").before(node);
  root.querySelector(".bar").hidden = true;
  node.focus();
  node.scrollIntoView({ block: "center" });
}
async function undo() {
  if (busy) return;
  if (dirty) await save();
  busy = true;
  try {
    const found = await call("POST", `/projects/${project}/undo?html=true`, {});
    show(found);
    say("Your last answer is back; change it and submit it again.");
  } catch (error) {
    busy = false;
    if (status) say(error.message, true);
    else live.textContent = error.message;
  }
}

// ---- dialogs
function open(which) {
  if (which === "keys") {
    const help = [...(widget?.help ?? []), ...(editor ? [["e", "edit the best answer"]] : []), ["c", "write why"], ["m", "mark a passage"], ["f", "flags"], [widget?.area ? "Ctrl Enter" : "Enter", "submit"], ["s", "skip"], ["u", "undo the last answer"], ["g", "guidelines"], ["?", "these keys"]];
    document.getElementById("key-list").replaceChildren(...help.flatMap(([k, what]) => [el("dt", {}, key(k)), el("dd", {}, what)]));
  }
  if (which === "skip") {
    if (!task || feedbackOpen) return;
    const reasons = task.asks.skip_reasons;
    const radios = reasons.map((reason, at) => el("input", { type: "radio", name: "reason", value: reason, required: true, checked: at === 0 }));
    document.getElementById("skip-form").replaceChildren(
      el("div", { class: "skip-reasons" }, reasons.map((reason, at) => el("label", { class: "check" }, radios[at], reason, at < 9 ? key(String(at + 1)) : null))),
      el("div", { class: "row" }, el("button", { class: "button", value: "skip" }, "Skip the task"), el("button", { class: "quiet", value: "cancel", formNoValidate: true }, "Back")));
    dialogs.skip.onkeydown = (event) => { const at = Number(event.key) - 1; if (at in radios) { radios[at].checked = true; radios[at].focus(); } };
    dialogs.skip.returnValue = "";
  }
  dialogs[which].showModal();
}
dialogs.skip.addEventListener("close", () => {
  const reason = document.querySelector("#skip-form input:checked")?.value;
  if (dialogs.skip.returnValue === "skip" && reason && !busy) send({ skipped: reason, seconds: Math.min(86400, elapsed()) });
});
document.getElementById("show-guidelines").addEventListener("click", () => open("guidelines"));
document.getElementById("show-keys").addEventListener("click", () => open("keys"));

// ---- keys
document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || event.altKey || event.metaKey) return;
  const typing = event.target.matches("textarea, input:not([type=radio], [type=checkbox])");
  if (event.key === "Enter" && (event.ctrlKey || (!typing && !event.target.matches("button:not(.chip), a, summary, .sentence")))) { event.preventDefault(); return submit(); }
  if (event.key === "Escape" && typing) return event.target.blur();
  if (typing || event.ctrlKey || (busy && !["g", "?"].includes(event.key))) return; // keys for a task that is going mean nothing
  const known = { g: () => open("guidelines"), "?": () => open("keys"), s: () => open("skip"), u: undo, e: () => (widget?.area ? widget.area.focus() : editor?.open()),
    c: () => root.querySelector("textarea[data-field=critique]")?.focus(), m: toggleMarking, f: flagsOrFinish };
  if (task && !feedbackOpen && widget?.keys(event)) return event.preventDefault();
  const action = known[event.key === "?" ? "?" : event.key.toLowerCase()];
  if (action) { event.preventDefault(); action(); }
});
function toggleMarking() {
  const on = marking.some((one) => one.isOn());
  for (const one of [...marking].reverse()) one.toggle(!on);
}
function flagsOrFinish() {
  if (task?.kind === "chat") return submit({ finish: true });
  root.querySelector(".flags input")?.focus();
}

start();
