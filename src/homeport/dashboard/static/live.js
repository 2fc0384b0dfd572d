// Keeps an open page as it would be if it were loaded now: asks for its middle again while somebody looks,
// and changes only what differs. Text from the server is never made into script: pages have a policy against that.
"use strict";

const main = document.getElementById("main");
const said = document.getElementById("said");
const SLOWEST_MS = 15000; // while nothing changes and nobody moves, pages ask less often

function say(text) { said.textContent = text; }

// ---- the present state of the page

let tag = "";
let timer = 0;
let wait = 0;
let asking = null;

const logs = []; // what reads each log of the page, in the same turn: a server that is asked at all is awake for a second

function shortest() { return 1000 * Number(main.dataset.live || (logs.length ? 1 : 0)); }

function schedule() {
  clearTimeout(timer);
  if (!shortest() || document.hidden) return;
  wait = Math.max(shortest(), wait);
  timer = setTimeout(refresh, wait);
}

async function refresh() {
  if (asking || document.hidden) return;
  asking = new AbortController();
  const asked = logs.map((read) => read(asking.signal));
  if (main.dataset.live) asked.push(load());
  try {
    const changed = await Promise.all(asked);
    wait = changed.includes(true) ? wait / 3 : Math.min(SLOWEST_MS, wait * 1.5);
    if (said.dataset.away) { delete said.dataset.away; say(""); }
  } catch (error) {
    if (error.name !== "AbortError") { said.dataset.away = "1"; say("The server does not answer. This page asks again."); wait = SLOWEST_MS; }
  } finally {
    asking = null;
    schedule();
  }
}

// Asks for the page's middle; returns whether it has changed.
async function load() {
  const headers = { "X-Part": "main" };
  if (tag) headers["If-None-Match"] = tag;
  const answer = await fetch(location.href, { headers, signal: asking.signal, cache: "no-store" });
  if (answer.status === 401) { location.assign("/login"); return false; }
  if (answer.status === 304) return false;
  tag = answer.headers.get("ETag") || "";
  replace(await answer.text());
  return true;
}

function replace(text) {
  const fresh = new DOMParser().parseFromString("<main>" + text + "</main>", "text/html").querySelector("main");
  become(main, fresh);
  settle();
}

// Makes the children of `old` those of `fresh`; elements with the same id stay the same elements.
function become(old, fresh) {
  let at = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    let same = at;
    if (wanted.id) {
      same = at && at.id === wanted.id ? at : [...old.children].find((each) => each.id === wanted.id) || null;
    } else if (at && (at.nodeType !== wanted.nodeType || at.nodeName !== wanted.nodeName || at.id)) {
      same = null;
    }
    if (!same || same.nodeName !== wanted.nodeName) {
      old.insertBefore(document.importNode(wanted, true), at);
      continue;
    }
    if (same !== at) old.insertBefore(same, at);
    else at = at.nextSibling;
    patch(same, wanted);
  }
  while (at) { const next = at.nextSibling; at.remove(); at = next; }
}

function patch(old, wanted) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== wanted.nodeValue) old.nodeValue = wanted.nodeValue;
    return;
  }
  if ("keep" in old.dataset || old.isEqualNode(wanted)) return;
  if (old.nodeName === "TIME" && old.dataset.at === wanted.dataset.at) return;
  for (const { name } of [...old.attributes]) {
    // What the visitor has opened, and what a filter hides, stays so.
    if (!wanted.hasAttribute(name) && name !== "open" && name !== "hidden") old.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (old.getAttribute(name) !== value && name !== "open" && name !== "hidden") old.setAttribute(name, value);
  }
  if (!/^(INPUT|SELECT|TEXTAREA)$/.test(old.nodeName)) become(old, wanted);
}

// ---- what only the visitor's browser knows

const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "medium" });
const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

function settle(root = document) {
  for (const each of root.querySelectorAll("time[data-at]")) {
    const at = new Date(1000 * Number(each.dataset.at));
    const day = Math.abs(Date.now() - at) < 12 * 3600 * 1000 ? hour : clock;
    const text = day.format(at);
    if (each.textContent !== text) { each.textContent = text; each.title = at.toISOString(); }
  }
  for (const each of document.querySelectorAll("[data-filter]")) filter(each);
}

function filter(input) {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const table = document.querySelector(input.dataset.filter);
  if (!table) return;
  let count = 0;
  for (const row of table.querySelectorAll("tbody > tr, :scope > li")) {
    const text = words.length ? row.textContent.toLowerCase() : "";
    const fits = words.every((word) => text.includes(word));
    if (row.hidden === fits) row.hidden = !fits;
    count += fits;
  }
  const none = document.querySelector(`[data-none="${input.dataset.filter}"]`);
  if (none) none.hidden = count > 0;
}

// ---- what the visitor does

document.addEventListener("input", (event) => {
  if (event.target.matches("[data-filter]")) filter(event.target);
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    const search = document.querySelector("input[type=search]");
    if (search) { event.preventDefault(); search.focus(); search.select(); }
  }
});
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.copy) {
    try { await navigator.clipboard.writeText(button.dataset.copy); say("Copied."); }
    catch { say("This browser copies nothing without HTTPS: mark the text instead."); }
  } else if ("themeSwitch" in button.dataset) {
    const root = document.documentElement;
    const dark = getComputedStyle(root).colorScheme === "dark";
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* until the next page */ }
  } else if (button.dataset.dialog) {
    document.getElementById(button.dataset.dialog).showModal();
  } else if ("close" in button.dataset) {
    button.closest("dialog").close();
  }
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) { clearTimeout(timer); if (asking) asking.abort(); }
  else { wait = 0; refresh(); }
});
for (const name of ["pointerdown", "pointermove", "keydown", "scroll"]) {
  document.addEventListener(name, () => { if (wait > 2 * shortest()) { wait = 0; refresh(); } }, { passive: true });
}

// ---- charts: the values below the pointer, from the table that is below each chart

document.addEventListener("pointermove", (event) => {
  const figure = event.target.closest ? event.target.closest("figure.chart") : null;
  for (const each of document.querySelectorAll("figure.chart.read")) {
    if (each !== figure) { each.classList.remove("read"); each.querySelector("output").textContent = ""; }
  }
  const svg = figure && event.target.closest("svg");
  if (!svg || svg.parentNode !== figure) return;
  const box = svg.getBoundingClientRect();
  const { begin, step, steps, left, right, values } = figure.dataset;
  const share = ((event.clientX - box.left) / box.width - left) / (right - left);
  const at = Math.round(Math.min(1, Math.max(0, share)) * (steps - 1));
  const lines = JSON.parse(values);
  const time = hour.format(new Date(1000 * (Number(begin) + at * step)));
  figure.querySelector("output").textContent = time + "  " +
    lines.map(([name, all]) => name + " " + (all[at] === null ? "-" : all[at])).join("  ");
  figure.classList.add("read");
});

// ---- logs: lines as they are written

const MOST_LINES = 3000;
const LEVELS = [["error", /\b(\w*error|critical|fatal|traceback|\w*exception)\b/i], ["warning", /\bwarn(ing)?\b/i]];

for (const box of document.querySelectorAll(".log")) follow(box);

function follow(box) {
  const list = box.querySelector("[data-log]");
  const state = box.querySelector("[data-log-state]");
  const [find, level, request, container, stay] = ["find", "level", "request", "container", "stay"].map((name) => box.querySelector(`[data-log-${name}]`));
  let last = 0;

  function fits(row) {
    const words = find.value.toLowerCase();
    const { at } = level.selectedOptions[0].value ? { at: level.value } : { at: "" };
    return (!words || row.textContent.toLowerCase().includes(words))
      && (!at || row.dataset.level === "error" || row.dataset.level === at)
      && (!request.value.trim() || row.dataset.request.startsWith(request.value.trim()))
      && (!container.value.trim() || row.dataset.container.startsWith(container.value.trim()));
  }

  function sift() {
    let count = 0;
    for (const row of list.children) { row.hidden = !fits(row); count += !row.hidden; }
    state.textContent = count === list.children.length ? "" : `${count} of ${list.children.length} lines`;
  }

  function add(lines) {
    const rows = document.createDocumentFragment();
    for (const line of lines) {
      if (!line.text && line.text !== "") continue;
      const row = document.createElement("li");
      const found = LEVELS.find(([, pattern]) => pattern.test(line.text));
      row.dataset.level = found ? found[0] : "";
      row.dataset.request = line.request || "";
      row.dataset.container = line.container || "";
      if (found) row.className = found[0];
      if (line.source === "system") row.classList.add("system");
      const at = document.createElement("time");
      at.dataset.at = line.at;
      const who = document.createElement("span");
      who.className = "dim";
      who.textContent = line.function + (line.container ? " " + line.container.slice(0, 10) : "");
      who.title = [line.container, line.request].filter(Boolean).join(" ");
      const text = document.createElement("span");
      text.className = "text";
      text.textContent = (found ? found[0] === "error" ? "▲ " : "△ " : "") + line.text; // as text, whatever a container prints
      row.append(at, who, text);
      row.hidden = !fits(row);
      rows.append(row);
      last = Math.max(last, line.at);
    }
    settle(rows);
    const isAtEnd = stay.checked;
    list.append(rows);
    while (list.children.length > MOST_LINES) list.firstChild.remove();
    if (isAtEnd) list.scrollTop = list.scrollHeight;
  }

  // Returns whether there were lines since the last time.
  async function read(signal) {
    const url = new URL(list.dataset.log, location.href);
    if (last) url.searchParams.set("since", last + 1e-6);
    const answer = await fetch(url, { signal, cache: "no-store" });
    if (!answer.ok) { state.textContent = answer.status === 401 ? "The session has ended." : "No log can be read here."; return false; }
    const lines = (await answer.text()).split("\n").filter(Boolean).map((line) => JSON.parse(line));
    if (lines.length) add(lines);
    return lines.length > 0;
  }

  for (const each of [find, level, request, container]) each.addEventListener("input", sift);
  list.addEventListener("wheel", () => { stay.checked = list.scrollTop + list.clientHeight > list.scrollHeight - 40; }, { passive: true });
  logs.push(read);
}

settle();
if (logs.length) { asking = new AbortController(); Promise.all(logs.map((read) => read(asking.signal))).catch(() => say("No log can be read now.")).finally(() => { asking = null; schedule(); }); }
else schedule();
