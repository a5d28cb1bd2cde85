// Keeps a page live: when something happens, its main part is fetched again and swapped in; a log that
// is being written is appended to. Without this script the pages work and show what was when loaded.

const main = document.querySelector("main[data-live]");
if (main) follow(main);
const log = document.querySelector("#log[data-log]");
if (log) append(log);

function follow(main) {
  const project = main.dataset.project;
  let busy = false, again = false;
  const source = new EventSource(`/live?project=${encodeURIComponent(project)}`);
  source.onmessage = refresh;
  // What happened while the connection was down is fetched once it is back.
  source.onopen = refresh;
  addEventListener("pagehide", () => source.close());

  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(main.dataset.live, { headers: { "X-Part": "live" } });
      if (answer.ok && !answer.redirected) swap(main, await answer.text());
    } catch { /* the next event tries again */ }
    busy = false;
    if (again) { again = false; setTimeout(refresh, 150); }
  }
}

// swap replaces what changed, and leaves alone what a person is at: open details, typed text, focus.
function swap(main, html) {
  const next = document.createElement("main");
  next.innerHTML = html;
  keep(main, next);
  if (main.innerHTML === next.innerHTML) return;
  const focus = path(main, document.activeElement);
  const scroll = main.querySelector(".graph")?.scrollLeft;
  main.replaceChildren(...next.childNodes);
  if (focus) main.querySelector(focus)?.focus({ preventScroll: true });
  const graph = main.querySelector(".graph");
  if (graph && scroll) graph.scrollLeft = scroll;
}

function keep(main, next) {
  const details = next.querySelectorAll("details");
  main.querySelectorAll("details").forEach((d, i) => { if (d.open && details[i]) details[i].open = true; });
  for (const field of main.querySelectorAll("input:not([type=hidden]), select")) {
    if (field.form && field.value !== field.defaultValue) {
      const same = next.querySelector(`form[action="${CSS.escape(field.form.getAttribute("action"))}"] [name="${field.name}"]`);
      if (same) same.replaceWith(field);
    }
  }
}

function path(main, element) {
  if (!element || element === document.body || !main.contains(element)) return null;
  const form = element.form?.getAttribute("action");
  if (form && element.name) return `form[action="${form}"] [name="${element.name}"]`;
  const href = element.getAttribute("href");
  return href ? `a[href="${CSS.escape(href)}"]` : null;
}

function append(log) {
  const source = new EventSource(log.dataset.log);
  source.onopen = () => log.replaceChildren();
  source.onmessage = (message) => {
    const line = JSON.parse(message.data);
    const end = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    const item = document.createElement("li");
    item.className = `${line.state} ${line.stream}`;
    item.append(text("time", line.time));
    if (line.group) item.append(text("span", line.group, "group"));
    const words = document.createElement("span");
    if (line.state) words.append(text("b", line.state), " ");
    words.append(line.text);
    item.append(words);
    log.append(item);
    while (log.childElementCount > 5000) log.firstElementChild.remove();
    if (end) log.scrollTop = log.scrollHeight;
  };
  source.addEventListener("end", () => source.close());
  addEventListener("pagehide", () => source.close());
}

function text(tag, words, name) {
  const element = document.createElement(tag);
  element.textContent = words;
  if (name) element.className = name;
  return element;
}

// "/" goes to the search field, as people expect.
addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) {
    event.preventDefault();
    document.querySelector(".find input")?.focus();
  }
});
