// Keeps a page live: when something happens, its main part is fetched again and what changed is put in;
// a log that is being written is appended to; times count on. Without this script the pages work and
// show what was when they were loaded.

const main = document.getElementById("main");
const connection = document.getElementById("connection");
const streams = new Set();
const copy = document.createElement("button");
copy.type = "button";
copy.className = "copier";

// stream holds a connection for as long as the page is looked at: browsers allow few per server. url
// is asked again at each connect, for where to go on.
function stream(url, listen) {
  const self = { source: null, open, close, end };
  let lost = 0;
  function open() {
    if (self.source || document.hidden) return;
    const source = self.source = new EventSource(url());
    source.onopen = () => { lost = 0; connection.hidden = true; };
    source.onerror = () => {
      if (++lost > 1) connection.hidden = false;
      if (source.readyState !== EventSource.CLOSED) return; // it comes back by itself
      close();
      if (main.dataset.live) refresh(); // says whether the session has ended
      setTimeout(() => streams.has(self) && open(), 5000);
    };
    listen(source, self);
  }
  function close() { self.source?.close(); self.source = null; }
  function end() { close(); streams.delete(self); }
  streams.add(self);
  open();
  return self;
}
document.addEventListener("visibilitychange", () => {
  for (const s of streams) document.hidden ? s.close() : s.open();
});
addEventListener("pagehide", () => streams.forEach((s) => s.close()));
addEventListener("pageshow", (event) => { if (event.persisted) streams.forEach((s) => s.open()); });

// The live part of the page

let cursor = "";
let busy = false, again = false;
if (main.dataset.live) {
  stream(() => main.dataset.stream.replace(/\d+$/, (from) => cursor || from), (source) => {
    source.onmessage = (message) => { cursor = message.lastEventId || cursor; refresh(); };
  });
}

// refresh fetches the live part again. It rests after that, the longer the more that took, so that a page with
// much on it does not keep the server and this machine busy while much happens.
async function refresh() {
  if (busy) { again = true; return; }
  busy = true;
  const began = performance.now();
  try {
    const headers = { "X-Part": "live" };
    const log = document.getElementById("log");
    if (log) headers["X-Log"] = log.dataset.key;
    const answer = await fetch(main.dataset.live, { headers });
    if (answer.redirected) signedOut();
    else if (answer.ok) put(await answer.text(), answer.headers.get("X-Title"));
  } catch { /* the next event tries again */ }
  setTimeout(() => {
    busy = false;
    if (again) { again = false; refresh(); }
  }, Math.min(5000, Math.max(200, 3 * (performance.now() - began))));
}

// signedOut says that the session has ended, and leaves alone what a person has typed.
function signedOut() {
  for (const s of [...streams]) s.end();
  connection.hidden = true;
  const note = document.getElementById("signedout");
  note.querySelector("a").href = "/signin?to=" + encodeURIComponent(location.pathname + location.search);
  note.hidden = false;
}

function put(html, title) {
  const next = document.createElement("main");
  next.innerHTML = html;
  const beside = copy.previousSibling, held = document.activeElement === copy;
  copy.remove(); // it is no part of what the server sent
  morph(main, next);
  if (beside?.isConnected) beside.after(copy);
  if (held) copy.focus({ preventScroll: true });
  const head = decodeURIComponent(title ?? "");
  if (head && head !== document.title) {
    document.title = head;
    document.getElementById("news").textContent = head.replace(" · Slipway", "");
  }
  follow();
}

// morph makes the children of old like those of next and keeps every element that stays, so that focus,
// typed text, selection, scrolling and what a person unfolded stay too. Elements with a name (an id or a
// key) are kept wherever they go.
function morph(old, next) {
  const stays = new Set([...next.childNodes].map(name).filter(Boolean));
  let at = old.firstChild;
  for (const want of [...next.childNodes]) {
    let same = at;
    // A text goes nowhere else: elements between it and another one would be lost for it.
    while (same && !alike(same, want)) same = want.nodeType !== Node.ELEMENT_NODE || !name(want) && stays.has(name(same)) ? null : same.nextSibling;
    if (!same) { old.insertBefore(want, at); continue; }
    while (at !== same && !stays.has(name(at))) { const gone = at; at = at.nextSibling; gone.remove(); }
    if (at === same) at = same.nextSibling;
    else old.insertBefore(same, at);
    stays.delete(name(same));
    patch(same, want);
  }
  while (at) { const gone = at; at = at.nextSibling; gone.remove(); }
}

function name(node) {
  return node.id || node.dataset?.key ? `${node.nodeName} ${node.id} ${node.dataset.key}` : "";
}

function alike(a, b) {
  return a.nodeName === b.nodeName && a.id === b.id && a.dataset?.key === b.dataset?.key && a.getAttribute?.("action") === b.getAttribute?.("action");
}

function patch(old, next) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  if (old.id === "log") { // its stream keeps it up to date
    if (next.dataset.ended === undefined) delete old.dataset.ended;
    return;
  }
  if (old.isEqualNode(next)) return;
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value && !(name === "open" && old.nodeName === "DETAILS")) old.setAttribute(name, value);
  }
  morph(old, next);
}

// The log

let reading = null;
function follow() {
  const log = document.getElementById("log");
  if (reading && reading.log !== log) { reading.end(); reading = null; }
  if (!log || reading || log.dataset.ended !== undefined) return;
  log.dataset.streamOpen = "";
  if (log.dataset.read > 0) log.scrollTop = log.scrollHeight;
  reading = stream(() => `${log.dataset.log}&after=${log.dataset.read}`, (source, self) => {
    source.onmessage = (message) => {
      log.dataset.read = message.lastEventId;
      append(log, JSON.parse(message.data));
    };
    source.addEventListener("end", () => {
      self.end();
      reading = null;
      log.dataset.ended = "";
      delete log.dataset.streamOpen;
    });
  });
  reading.log = log;
}

// append adds what the server says of one line. The view moves on only when it is at the end.
function append(log, { g, fold, head, box, line }) {
  const end = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  let group = log.querySelector(`[data-group="${g}"]`);
  log.querySelector(".nothing")?.remove();
  if (!group && box) {
    log.insertAdjacentHTML("beforeend", box);
    group = log.lastElementChild;
  }
  if (!group) return;
  const lines = group.querySelector(".lines") ?? group;
  if (head) group.querySelector("summary").innerHTML = head;
  if (line) lines.insertAdjacentHTML("beforeend", line);
  if (fold && head && end && !group.contains(document.activeElement)) group.open = false;
  const all = log.getElementsByClassName("line");
  if (all.length > 6000) for (const old of [...all].slice(0, 1000)) old.remove();
  if (end) log.scrollTop = log.scrollHeight;
}
follow();

// Times count on, in the form that the server writes them.

function short(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
}

function coarse(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 2 * 3600) return `${Math.floor(s / 60)} min`;
  if (s < 48 * 3600) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} days`;
}

const skew = Date.now() - Date.parse(main.dataset.now); // this clock is ahead of the server's by
function tick() {
  if (document.hidden) return;
  const since = (from) => (Date.now() - skew - Date.parse(from)) / 1000;
  const set = (element, text) => { if (element.textContent !== text) element.textContent = text; };
  for (const e of document.querySelectorAll("[data-since]")) set(e, short(since(e.dataset.since)));
  for (const e of document.querySelectorAll("time[data-ago], .board time")) set(e, `${coarse(since(e.dateTime))} ago`);
}
setInterval(tick, 1000);

// Keys and small things

// A filter filters while it is typed into; what it finds is told to who does not see it.
let typing = 0;
addEventListener("input", (event) => {
  const form = event.target.form;
  if (form?.dataset.instant === undefined) return;
  clearTimeout(typing);
  typing = setTimeout(async () => {
    const asked = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
    main.dataset.live = (form.getAttribute("action") ?? location.pathname) + (asked.size ? `?${asked}` : "");
    history.replaceState(null, "", main.dataset.live);
    await refresh();
    document.getElementById("news").textContent = (main.querySelector("main > table caption") ?? main.querySelector("main > .empty"))?.textContent ?? "";
  }, 150);
});

// The exact moment of a time, where the server left it out.
addEventListener("mouseover", (event) => {
  const time = event.target.closest?.("time");
  if (time && !time.title) time.title = time.dateTime.replace("T", " ").replace("Z", " UTC");
});

// Beside a digest or a hash that the pointer or the focus is at stands a button that copies the whole of it.
function offer(event) {
  const at = event.target.closest?.("a.mono[title], code.copy");
  if (!at || copy.previousSibling === at) return;
  copy.textContent = "Copy";
  copy.dataset.text = at.title || at.textContent;
  copy.setAttribute("aria-label", `Copy ${at.textContent}`);
  copy.classList.toggle("inside", at.getBoundingClientRect().right > innerWidth - 90);
  at.after(copy);
}
addEventListener("mouseover", offer);
addEventListener("focusin", offer);
addEventListener("mouseover", (event) => {
  if (copy.isConnected && !copy.parentNode.contains(event.target) && document.activeElement !== copy) copy.remove();
});
copy.addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(copy.dataset.text);
  } catch { // there is none by plain http
    const box = document.createElement("textarea");
    box.value = copy.dataset.text;
    document.body.append(box);
    box.select();
    document.execCommand("copy");
    box.remove();
    copy.focus({ preventScroll: true });
  }
  copy.textContent = "Copied";
  setTimeout(() => { copy.textContent = "Copy"; }, 2000);
  document.getElementById("news").textContent = "Copied";
});

addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  document.getElementById("find")?.focus();
});
// Of what is wider than its place, the current one is in view.
for (const box of document.querySelectorAll(".tabs, .graph")) {
  const at = box.querySelector("[aria-current]")?.getBoundingClientRect(), place = box.getBoundingClientRect();
  if (at) box.scrollLeft += (at.left + at.right - place.left - place.right) / 2;
}
