// The annotator's page: fetches a task, draws it, keeps drafts, sends the answer, goes on. Everything works from the keyboard.

import { call, callUntilHeard, el, footBar, key, keyList, letter, letterKeys, pressed, Refused, root as prefix, t, tn } from "./dom.js";
import { typeset } from "./math.js";
import { marker } from "./spans.js";
import { stepper } from "./steps.js";
import { turn, written } from "./texts.js";
import { controlsOf, editing, flags, scale, strengthWords, writing } from "./widgets.js";

const root = document.getElementById("task");
const live = document.getElementById("live");
const project = root.dataset.project;
const dialogs = Object.fromEntries(["guidelines", "keys", "skip", "note"].map((id) => [id, document.getElementById(id)]));
const TITLES = { pairwise: t("Compare two answers"), ranking: t("Rank the answers"), likert: t("Rate the answers"),
  best_worst: t("Choose the best and the worst"), rubric: t("Check the answers by a rubric"),
  demonstration: t("Write an answer"), correction: t("Correct an answer"), chat: t("Talk with the model") };
const PARTS = { training: t("Training: you see after each task what was expected."), qualification: t("Test: these tasks decide whether you go on to the work.") };

let task, answer, widget, editor, steps, marking, status, submitButton, busy = false, saving, dirty = false, seconds = 0, shownAt = 0, feedbackOpen = false, frozen = false;

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
  document.getElementById("guidelines-text").innerHTML = found.html || t("This project has no guidelines.");
  typeset(document.getElementById("guidelines-text"));
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
    if (task?.lease === lease && !dirty && !busy) say(t("Draft saved"));
  } catch (error) {
    dirty = true;
    if (error instanceof Refused && error.status === 409) return lost(error.message);
    if (task?.lease === lease) { say(t("The draft is not saved yet: the server cannot be reached."), true); saving = setTimeout(save, 3000); }
  }
}
setInterval(() => { if (task && !document.hidden) save(); }, 240000);
window.addEventListener("beforeunload", (event) => { if (dirty) { save({ keepalive: true }); event.preventDefault(); } });

// ---- fetching
async function next() {
  task = null;
  try {
    show(await callUntilHeard("POST", `/projects/${project}/next?html=true`, {}, () => say(t("The server cannot be reached; trying again …"), true)));
  } catch (error) {
    finished(t("You cannot go on here"), error.message);
  }
}
function finished(title, text) {
  task = null;
  status = null;
  frozen = true;
  root.replaceChildren(el("section", { class: "card narrow" }, el("h1", { tabIndex: -1 }, title), el("p", {}, text),
    el("p", { class: "row" }, root.dataset.crowd === "yes" ? el("a", { class: "button", href: `${prefix}/projects/${project}/done` }, t("Finish")) : null,
      el("button", { type: "button", class: "button", onclick: start }, t("Look again")),
      el("button", { type: "button", class: "quiet", onclick: undo }, t("Undo my last answer"), " ", key("u")))));
  root.querySelector("h1").focus();
}
function lost(message) {
  const written = [answer?.text, answer?.critique].filter((text) => text?.trim());
  task = null;
  frozen = true;
  root.replaceChildren(el("section", { class: "card narrow" }, el("h1", {}, t("This task is no longer yours")), el("p", {}, message),
    written.length ? el("p", {}, t("What you wrote is kept, here and on the server:")) : null,
    written.map((text) => el("textarea", { readOnly: true, rows: 6, value: text, "aria-label": t("What you wrote") })),
    el("button", { type: "button", class: "button", onclick: start }, t("Next task"))));
}
function start() { frozen = false; busy = false; return next(); }

// ---- drawing
function show(found) {
  busy = false;
  frozen = false;
  feedbackOpen = false;
  if (found === null) return finished(t("All done for now"), t("There are no tasks for you at the moment. Thank you!"));
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
  widget = editor = steps = null;
  marking = [];
  const parts = [el("h1", { tabIndex: -1 }, TITLES[kind])];
  if (PARTS[task.part]) parts.push(el("p", { class: "banner" }, PARTS[task.part]));
  parts.push(...task.notes.map((note) => el("aside", { class: note.mine ? "card note mine" : "card note" },
    el("p", { class: "hint" }, note.mine ? t("You") : t("The project")), el("p", { class: "said", dir: "auto" }, note.text))));
  if (task.scenario.text) parts.push(el("section", { class: "card scenario", "aria-label": t("Your scenario") }, el("h2", {}, t("Your scenario"), " ", el("span", { class: "hint" }, t("only you see it, no model does"))),
    el("div", { class: "text", dir: "auto", html: task.scenario.html })));
  if (task.messages.length) parts.push(el("section", { class: "prompt", "aria-label": t("Prompt") }, el("h2", { class: "away" }, t("Prompt")), task.messages.map((m) => turn(m.role, m))));
  if (kind === "chat") parts.push(...chat());
  else {
    if (asks.step_verdicts !== "off") steps = stepper(task.answers, answer, changed, asks.step_verdicts === "required");
    if (task.answers.length) parts.push(el("div", { class: "answers" }, task.answers.map(card)));
    parts.push(...controls(kind, asks));
    parts.push(flagging());
  }
  if (task.answers.length && asks.critique !== "off") {
    const why = writing(t("Why?"), answer, changed, { hint: asks.critique === "required" ? t("asked for here") : t("if you like") });
    parts.push(why.node);
  }
  parts.push(bar());
  root.replaceChildren(...parts.filter(Boolean));
  typeset(root);
  steps?.begin();
  showProgress();
  favour();
  // What scrolls inside its column must be reached by keyboard too.
  for (const node of root.querySelectorAll(".answer > .text, .answer > .trace, .answer > .steps-list")) if (node.scrollHeight > node.clientHeight + 1) node.tabIndex = 0;
}
function card(one, place) {
  const text = steps ? steps.node(place) : written(one);
  const head = el("h2", {}, el("span", { class: "letter" }, letter(place)), el("span", { class: "away" }, t("Answer {letter}", { letter: letter(place) })));
  const node = el("section", { class: "answer", "data-place": place, "aria-label": t("Answer {letter}", { letter: letter(place) }) }, head, text);
  if (task.asks.critique !== "off") {
    const made = marker(one, place, answer, changed);
    let on = false;
    const button = el("button", { type: "button", class: "quiet small", "aria-pressed": "false", onclick: () => toggle(!on) },
      t("Mark"), el("span", { class: "away" }, " ", letter(place)), place === 0 ? [" ", key("m")] : null);
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
  widget = controlsOf(kind, asks, task.answers, answer, changed);
  if (kind === "demonstration") {
    const made = writing(t("Your answer"), answer, changed, { field: "text", rows: 10, hint: "Markdown", shortcut: "e" });
    widget = text(made, () => (answer.text?.trim() ? null : t("Write an answer.")));
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
  help: [["e", t("write")], ["Esc", t("leave the text")]] });

function correction() {
  const many = task.answers.length > 1;
  if (!many) answer.corrected = 0;
  const original = () => task.answers[answer.corrected]?.text ?? "";
  const made = writing(t("Corrected answer"), answer, changed, { field: "text", rows: 10, hint: t("change what is wrong, leave the rest"), shortcut: "e", fresh: original() });
  const pick = (place) => {
    const untouched = !made.area.value || task.answers.some((one) => one.text === made.area.value);
    answer.corrected = place;
    radios[place].checked = true;
    if (untouched) { made.area.value = original(); answer.text = original(); }
    changed();
  };
  const radios = task.answers.map((_, place) => el("input", { type: "radio", name: "corrected", checked: answer.corrected === place, onchange: () => pick(place) }));
  const choice = many && el("fieldset", {}, el("legend", {}, t("Which one do you correct?")), el("div", { class: "scale" }, el("div", { class: "steps" },
    radios.map((radio, place) => el("label", { class: "choice" }, radio, letter(place), key(String(place + 1)))))));
  const wanted = text(made, () => answer.corrected === undefined || answer.corrected === null ? t("Say which answer you correct.")
    : !answer.text?.trim() || answer.text.trim() === original().trim() ? t("Change what is wrong, or skip the task.") : null);
  wanted.node = el("section", {}, choice || null, made.node);
  wanted.keys = (name) => {
    const place = Number(name) - 1;
    if (!many || !(place in task.answers)) return false;
    pick(place);
    return true;
  };
  if (many) wanted.help.unshift([`1 – ${task.answers.length}`, t("which answer you correct")]);
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
      el("section", { class: "answer", "data-place": place, "aria-label": t("Answer {letter}", { letter: letter(place) }) },
        el("h2", {}, el("span", { class: "letter" }, letter(place)), el("span", { class: "away" }, t("Answer {letter}", { letter: letter(place) }))), written(a)))));
  });
  if (open) {
    const choice = {};
    const asking = scale(task.asks, choice, () => { favour(); say(""); });
    widget = { ...asking, missing: () => t("Choose first, then go on."), step: async () => {
      if (asking.missing()) return say(asking.missing(), true);
      await chatCall("choice", { strength: choice.strength, both_bad: Boolean(choice.both_bad) });
    } };
    parts.push(asking.node);
  } else if (!task.chat.length && ["user", "tool"].includes(task.messages.at(-1)?.role)) {
    const asked = el("p", { class: "card" }, t("The model answers first; choose between its two answers, then go on."));
    widget = { node: asked, keys: () => false, lead: () => null, help: [["Enter", t("let the model answer")]], missing: () => t("Let the model answer first."),
      step: async () => { say(t("The model is writing …")); await chatCall("chat", { text: "" }); } };
    parts.push(asked);
  } else {
    const left = Math.max(0, task.asks.turns - task.chat.length);
    const made = writing(task.chat.length ? t("Go on") : t("Begin the conversation"), answer, changed, { field: "say", rows: 3, shortcut: "e",
      hint: left ? tn("at least {n} more turn", "at least {n} more turns", left) : t("or submit, to finish") });
    widget = { node: made.node, area: made.area, keys: () => false, lead: () => null, help: [["e", t("write")], ["Ctrl Enter", t("send")]],
      missing: () => (left ? tn("The conversation needs {n} more turn.", "The conversation needs {n} more turns.", left) : null),
      step: async () => {
        const words = made.area.value.trim();
        if (!words) return say(t("Write something first."), true);
        say(t("The model is writing …"));
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
    live.textContent = what === "chat" ? t("Two answers are there; choose.") : t("Chosen. Go on.");
  } catch (error) {
    busy = false;
    say(error instanceof Refused ? error.message : t("The server cannot be reached; try again."), true);
  }
}

function bar() {
  status = el("span", { class: "status", role: "status" });
  submitButton = el("button", { type: "button", class: "button", onclick: () => submit() }, task.kind === "chat" ? t("Go on") : t("Submit"), " ", key(widget?.area ? "Ctrl Enter" : "Enter"));
  return footBar(
    el("button", { type: "button", class: "quiet", onclick: undo }, t("Undo"), " ", key("u")),
    el("button", { type: "button", class: "quiet", onclick: () => open("skip") }, t("Skip"), " ", key("s")),
    el("button", { type: "button", class: "quiet", onclick: () => open("note") }, t("Ask"), " ", key("n")),
    status,
    task.kind === "chat" && widget.area ? el("button", { type: "button", class: "quiet", onclick: () => submit({ finish: true }) }, t("Finish"), " ", key("f")) : null,
    submitButton);
}
function favour() {
  const lead = widget?.lead?.() ?? null;
  for (const node of root.querySelectorAll(".answer[data-place]")) node.classList.toggle("favoured", Number(node.dataset.place) === lead);
}
function showProgress() {
  const { done, of } = task.progress;
  const parts = [{ training: t("Training"), qualification: t("Test") }[task.part], of ? t("{done} of {of} done", { done, of }) : t("{done} done", { done }),
    task.part === "work" && !of ? t("project {share} %", { share: Math.round(100 * root.dataset.share) }) : null];
  document.getElementById("progress").textContent = parts.filter(Boolean).join(" · ");
}

// ---- sending
function submission() {
  const fields = { pairwise: ["strength", "both_bad", "preferences", "reasons", "text", "corrected"], ranking: ["ranks", "text", "corrected"], likert: ["ratings"], best_worst: ["best", "worst"], rubric: ["verdicts"], demonstration: ["text"], correction: ["text", "corrected"], chat: [] }[task.kind];
  const sent = { seconds: Math.min(86400, elapsed()) };
  if (steps) fields.push("step_verdicts");
  for (const name of [...fields, "flags", "critique", "spans"]) if (answer[name] !== undefined && answer[name] !== null) sent[name] = answer[name];
  return sent;
}
async function submit({ finish = false } = {}) {
  if (!task || busy) return;
  if (feedbackOpen) return next();
  if (task.kind === "chat" && widget.step && !finish && (!widget.area || widget.wantsStep() || widget.missing())) return widget.step();
  const missing = steps?.missing() ?? widget.missing() ?? editor?.missing();
  if (missing) return say(missing, true);
  if (task.asks.critique === "required" && task.answers.length && !answer.critique?.trim() && !answer.spans?.length) return say(t("Say why, or mark what is wrong."), true);
  await send(submission());
}
async function send(body) {
  busy = true;
  clearTimeout(saving);
  submitButton.disabled = true;
  say(t("Sending …"));
  try {
    const found = await callUntilHeard("POST", `/leases/${task.lease}/answer?html=true`, body, () => say(t("The server cannot be reached; trying again. Your answer is safe on this page."), true));
    dirty = false;
    forget(task.lease);
    if (found.feedback) {
      live.textContent = t("Recorded");
      return feedback(found.feedback);
    }
    await next();
    live.textContent = t("Recorded"); // once the next task is there: whoever is told so may type at once
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
  if (expected.strength !== undefined) lines.push(expected.both_bad ? t("Both are bad") : strengthWords(expected.strength, task.asks));
  if (expected.ranks) lines.push(expected.ranks.map((rank, place) => `${letter(place)}: ${rank}`).join(", "));
  if (expected.best !== undefined) lines.push(t("best {letter}", { letter: letter(expected.best) }));
  if (expected.worst !== undefined) lines.push(t("worst {letter}", { letter: letter(expected.worst) }));
  (expected.verdicts ?? []).forEach((values, c) => lines.push(`${c + 1}: ${values.map((met, p) => `${letter(p)} ${met ? "✓" : "✗"}`).join(", ")}`));
  for (const [name, values] of Object.entries(expected.ratings ?? {})) lines.push(`${name}: ${values.map((v, p) => `${letter(p)} ${v}`).join(", ")}`);
  for (const [name, places] of Object.entries(expected.flags ?? {})) lines.push(`${t(name)}: ${places.map(letter).join(", ") || t("none")}`);
  const node = el("section", { class: found.right ? "card feedback" : "card feedback wrong", tabIndex: -1 },
    el("h2", {}, found.right ? t("Right.") : t("Not quite: {share} % right.", { share: Math.round(100 * found.score) })),
    lines.length ? el("p", {}, t("Expected: {what}.", { what: lines.join("; ") })) : null,
    el("div", { class: "text", dir: "auto", html: found.explanation.html }),
    el("p", { class: "row" }, el("button", { type: "button", class: "button", onclick: () => next() }, t("Next task"), " ", key("Enter"))));
  root.querySelector(".bar").before(node);
  typeset(node);
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
    say(t("Your last answer is back; change it and submit it again."));
  } catch (error) {
    busy = false;
    if (status) say(error.message, true);
    else live.textContent = error.message;
  }
}

// ---- dialogs
function open(which) {
  if (which === "keys") {
    const help = [...(steps?.help ?? []), ...(widget?.help ?? []), ...(editor ? [["e", t("edit the best answer")]] : []), ["c", t("write why")], ["m", t("mark a passage")], ["f", t("flags")], [widget?.area ? "Ctrl Enter" : "Enter", t("submit")], ["s", t("skip")], ["n", t("ask the project")], ["u", t("undo the last answer")], ["g", t("guidelines")], ["?", t("these keys")]];
    document.getElementById("key-list").replaceChildren(...keyList(help));
  }
  if (which === "note" && !task) return;
  if (which === "skip") {
    if (!task || feedbackOpen) return;
    const reasons = task.asks.skip_reasons;
    const radios = reasons.map((reason, at) => el("input", { type: "radio", name: "reason", value: reason, required: true, checked: at === 0 }));
    document.getElementById("skip-form").replaceChildren(
      el("div", { class: "skip-reasons" }, reasons.map((reason, at) => el("label", { class: "check" }, radios[at], t(reason), at < 9 ? key(String(at + 1)) : null))),
      el("div", { class: "row" }, el("button", { class: "button", value: "skip" }, t("Skip the task")), el("button", { class: "quiet", value: "cancel", formNoValidate: true }, t("Back"))));
    dialogs.skip.onkeydown = (event) => { const at = letterKeys ? Number(pressed(event)) - 1 : -1; if (at in radios) { radios[at].checked = true; radios[at].focus(); } };
    dialogs.skip.returnValue = "";
  }
  dialogs[which].showModal();
}
dialogs.skip.addEventListener("close", () => {
  const reason = document.querySelector("#skip-form input:checked")?.value;
  if (dialogs.skip.returnValue === "skip" && reason && !busy) send({ skipped: reason, seconds: Math.min(86400, elapsed()) });
});
dialogs.note.addEventListener("close", async () => {
  const area = dialogs.note.querySelector("textarea");
  if (dialogs.note.returnValue !== "send" || !area.value.trim() || !task) return;
  try {
    await call("POST", `/leases/${task.lease}/note`, { text: area.value });
    area.value = "";
    say(t("The note is sent; an answer comes to you here and under Notes."));
  } catch (error) {
    say(error instanceof Refused ? error.message : t("The server cannot be reached; try again."), true);
  }
});
document.getElementById("show-guidelines").addEventListener("click", () => open("guidelines"));
document.getElementById("show-keys").addEventListener("click", () => open("keys"));

// ---- keys
document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || event.altKey || event.metaKey || event.isComposing) return;
  const typing = event.target.matches("textarea, input:not([type=radio], [type=checkbox])");
  if (event.key === "Enter" && (event.ctrlKey || (!typing && !event.target.matches("button:not(.chip), a, summary, .sentence")))) { event.preventDefault(); return submit(); }
  if (event.key === "Escape" && typing) return event.target.blur();
  const name = pressed(event);
  if (typing || event.ctrlKey || (name.length === 1 && !letterKeys) || (busy && !["g", "?"].includes(name))) return; // keys for a task that is going mean nothing
  const known = { g: () => open("guidelines"), "?": () => open("keys"), s: () => open("skip"), u: undo, n: () => open("note"), e: () => (widget?.area ? widget.area.focus() : editor?.open()),
    c: () => root.querySelector("textarea[data-field=critique]")?.focus(), m: toggleMarking, f: flagsOrFinish };
  if (task && !feedbackOpen && (widget?.keys(name) || steps?.keys(name))) return event.preventDefault();
  const action = known[name];
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
