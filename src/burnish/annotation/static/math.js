// Formulas (elements of class "math") by KaTeX, which is fetched from this server where a page has any. What KaTeX cannot read
// stays as it was written. Images have names of this server's, and get their addresses here; a click opens one at its full size.

import { el, root as prefix } from "./dom.js";

const folder = new URL("katex/", import.meta.url);
const WHOLE = document.querySelector("meta[name=whole-image]")?.content;
let loading;

function katex() {
  loading ??= new Promise((resolve, reject) => {
    const style = Object.assign(document.createElement("link"), { rel: "stylesheet", href: `${folder}katex.min.css` });
    const script = Object.assign(document.createElement("script"), { src: `${folder}katex.min.js`, onload: () => resolve(window.katex), onerror: reject });
    document.head.append(style, script);
  });
  return loading;
}

function pictures(root) {
  for (const image of root.querySelectorAll("img[data-image]:not([src])")) {
    image.loading = "lazy";
    image.src = `${prefix}/images/${image.dataset.image}`;
    if (image.closest("a, .sentence")) continue;
    const whole = el("a", { href: image.src, target: "_blank", rel: "noopener", "aria-label": [WHOLE, image.alt].filter(Boolean).join(": ") });
    image.replaceWith(whole);
    whole.append(image);
  }
}

// What scrolls sideways must be reached by keyboard too.
function reachable(root) {
  for (const node of root.querySelectorAll("main > table, section > table, .text table, pre")) if (node.scrollWidth > node.clientWidth + 1) node.tabIndex = 0;
}
window.addEventListener("resize", () => reachable(document));

export async function typeset(root) {
  reachable(root);
  pictures(root);
  const formulas = [...root.querySelectorAll(".math:not(.set)")];
  if (!formulas.length) return;
  const maths = await katex().catch(() => null);
  for (const node of maths ? formulas : []) {
    const source = node.textContent;
    try {
      // Nothing of a formula reaches out, and none grows beyond bounds.
      maths.render(source, node, { displayMode: node.classList.contains("display"), trust: false, strict: "ignore", maxSize: 20, maxExpand: 500 });
      node.classList.add("set");
    } catch {
      node.textContent = source;
      node.classList.add("set", "unread");
    }
  }
}

typeset(document);
