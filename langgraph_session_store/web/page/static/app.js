// The page's own script: fetches fragments with the token, keeps the state in the address, listens to what changes.
// Fragments come from this server's templates, which escape all text; they are parsed without running anything.

const TOKEN = "session-store-token";
const REFRESH = { table: 300, counters: 1000, charts: 5000, session: 300 }; // least milliseconds between two looks
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const sleep = (time) => new Promise((done) => setTimeout(done, time));
const parser = new DOMParser();

const token = {
  get() { try { return sessionStorage.getItem(TOKEN); } catch { return this.kept ?? null; } },
  set(value) { this.kept = value; try { value ? sessionStorage.setItem(TOKEN, value) : sessionStorage.removeItem(TOKEN); } catch { /* kept */ } },
};

// --- asking the server ---

class Gone extends Error {}

async function ask(address, options = {}) {
  for (;;) {
    const used = token.get();
    const headers = { ...(options.headers ?? {}), ...(used ? { Authorization: `Bearer ${used}` } : {}) };
    let answer;
    try {
      answer = await fetch(address, { ...options, headers, cache: "no-store", credentials: "omit" });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new Gone("The server cannot be reached.");
    }
    if (answer.status === 401) { await signIn(Boolean(used), used); continue; }
    $("#forget").hidden = !used;
    if (answer.status === 503 || answer.status === 502 || answer.status === 429) throw new Gone(await detail(answer));
    return answer;
  }
}

async function detail(answer) {
  try { return (await answer.json()).detail; } catch { return `The server answers ${answer.status}.`; }
}

let signing = null;
function signIn(wrong, used) {
  if (token.get() !== used) return Promise.resolve(); // another request has asked meanwhile
  signing ??= new Promise((done) => {
    const dialog = $("#ask");
    $("#ask-wrong").hidden = !wrong;
    $("#ask-token").value = "";
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    $("#ask-form").onsubmit = (event) => {
      event.preventDefault();
      token.set($("#ask-token").value.trim());
      dialog.close();
      signing = null;
      done();
    };
    dialog.showModal();
  });
  return signing;
}

// --- fragments ---

const regions = new Map(); // name -> {element, running, again, last}
for (const element of $$("[data-fragment]")) regions.set(element.dataset.fragment, { element, last: 0 });

function fragmentAddress(name) {
  return `fragments/${name}${location.search}`;
}

async function load(name, { fresh = false } = {}) {
  const region = regions.get(name);
  if (!region) return;
  if (region.running && !fresh) { region.again = true; return; }
  region.running?.abort();
  const running = (region.running = new AbortController());
  region.element.setAttribute("aria-busy", "true");
  try {
    const answer = await ask(fragmentAddress(name), { signal: running.signal });
    const text = answer.ok ? await answer.text() : null;
    region.fresh = Date.now() + 1000 * Number(answer.headers.get("X-Fresh-For") ?? 0);
    if (running.signal.aborted) return;
    if (text === null) showProblem(region, await detail(answer), answer.status);
    else show(name, region, text);
    recovered();
  } catch (error) {
    if (running.signal.aborted) return;
    away(error instanceof Gone ? error.message : "The server cannot be reached.");
  } finally {
    if (region.running === running) {
      region.running = null;
      region.last = Date.now();
      region.element.removeAttribute("aria-busy");
      if (region.again) { region.again = false; later(name); }
    }
  }
}

function show(name, region, text) {
  const before = name === "table" ? versions(region.element) : null;
  const place = name === "table" ? chosenRow()?.dataset.id : null;
  const left = $(".scroll", region.element)?.scrollLeft ?? 0;
  const open = name === "session" ? $$("details[open]", region.element).map((item) => item.dataset.key) : null;
  const first = !region.shown;
  region.element.replaceChildren(...parser.parseFromString(text, "text/html").body.childNodes);
  region.shown = true;
  if (before && !first && !region.moved) mark(region.element, before);
  region.moved = false;
  if (place) choose($(`tr[data-id="${CSS.escape(place)}"]`, region.element), false);
  const scroll = $(".scroll", region.element);
  if (scroll) scroll.scrollLeft = left;
  if (open && !first) for (const item of $$("details", region.element)) item.open = open.includes(item.dataset.key);
  if (name === "filters") setUpFilters();
  if (name === "session") document.title = `${$("h1", region.element)?.textContent ?? "Session"} · Sessions`;
  tell();
}

function showProblem(region, text, status) {
  const box = document.createElement("div");
  box.className = "empty";
  const title = document.createElement("h2");
  title.textContent = status === 404 ? "Not here" : "This cannot be shown";
  const why = document.createElement("p");
  why.textContent = text.split(" Valid: ")[0];
  const back = document.createElement("a");
  Object.assign(back, { href: "./", textContent: "Back to all sessions" });
  back.dataset.link = "";
  box.append(title, why, back);
  if (region.element.dataset.fragment === "counters" || region.element.dataset.fragment === "charts") region.element.replaceChildren();
  else region.element.replaceChildren(box);
}

const versions = (root) => new Map($$("tr[data-id]", root).map((row) => [row.dataset.id, row.dataset.version]));
function mark(root, before) {
  for (const row of $$("tr[data-id]", root)) if (before.get(row.dataset.id) !== row.dataset.version) row.classList.add("new");
}

const timers = new Map();
function later(name) {
  const region = regions.get(name);
  if (!region || timers.has(name)) return;
  const wait = Math.max(150, region.last + REFRESH[name] - Date.now(), (region.fresh ?? 0) + 20 - Date.now());
  timers.set(name, setTimeout(() => { timers.delete(name); if (!document.hidden) load(name); else region.stale = true; }, wait));
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  for (const [name, region] of regions) if (region.stale) { region.stale = false; load(name); }
});

// --- while the database or the server is away ---

let retrying = null;
function away(text) {
  const banner = $("#banner");
  banner.textContent = `${text ?? "The server does not answer."} This page tries again by itself.`;
  banner.hidden = false;
  document.body.classList.add("away");
  retrying ??= setTimeout(() => { retrying = null; reload(); }, 2000);
}
function recovered() {
  if ([...regions.values()].some((region) => region.running && !region.shown)) { /* the others will say it, too */ }
  $("#banner").hidden = true;
  document.body.classList.remove("away");
}

function reload(fresh = false) {
  for (const [name, region] of regions) { region.moved = fresh; load(name, { fresh }); }
}

// --- the state is the address ---

function go(address, { replace = false } = {}) {
  const target = new URL(address, location.href);
  if (target.origin !== location.origin) return;
  if (target.pathname !== location.pathname) { location.assign(target); return; }
  history[replace ? "replaceState" : "pushState"]({}, "", target);
  try { sessionStorage.setItem("session-store-list", target.search); } catch { /* no way back to the filter, then */ }
  reload(true);
}
addEventListener("popstate", () => reload(true));

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-link]");
  if (link && !event.defaultPrevented && event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey)) {
    event.preventDefault();
    if ("up" in link.dataset) up(); else go(link.href);
    return;
  }
  const file = event.target.closest("a[data-file]");
  if (file && token.get()) { event.preventDefault(); save(file); return; }
  const copy = event.target.closest("[data-copy], [data-copy-text]");
  if (copy) { copyText(copy); return; }
  const edit = event.target.closest("[data-edit]");
  if (edit) { editFilter(edit.dataset.edit, edit.dataset.value); return; }
  const row = event.target.closest("tr[data-id]");
  if (row && !event.target.closest("a, button") && !String(getSelection())) { choose(row, false); $("a.open", row)?.click(); }
  for (const pop of $$("details.pop[open]")) if (!pop.contains(event.target)) pop.open = false;
});

function up() {
  let search = "";
  try { search = sessionStorage.getItem("session-store-list") ?? ""; } catch { /* the whole list, then */ }
  go(`./${search}`);
}

async function save(link) {
  const answer = await ask(link.href);
  if (!answer.ok) { away(await detail(answer)); return; }
  const address = URL.createObjectURL(await answer.blob());
  const anchor = Object.assign(document.createElement("a"), { href: address, download: link.dataset.file });
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

async function copyText(button) {
  const text = button.dataset.copyText ?? $$("li", button.parentElement).map((line) => line.textContent).join("");
  try { await navigator.clipboard.writeText(text); } catch { return; }
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1200);
}

// --- filters ---

function setUpFilters() {
  const search = $("#search");
  if (!search) return;
  search.addEventListener("submit", (event) => { event.preventDefault(); change("_q", $("#q").value.trim()); });
  $("#q").addEventListener("search", () => { if (!$("#q").value) change("_q", ""); });
  $("#filter-field").addEventListener("change", () => offerOperators());
  $("#filter-op").addEventListener("change", offerValue);
  $("#add").addEventListener("toggle", () => { if ($("#add").open) $("#filter-field").focus(); });
  $("#filter-form").addEventListener("submit", (event) => { event.preventDefault(); addFilter(); });
  $("#columns-form").addEventListener("submit", (event) => {
    event.preventDefault();
    change("fields", $$("input:checked", event.target).map((box) => box.name).join(","));
  });
  offerOperators();
}

function change(name, value, { drop = [] } = {}) {
  const words = new URLSearchParams(location.search);
  for (const gone of ["cursor", name, ...drop]) words.delete(gone);
  if (value) words.append(name, value);
  go(`./${words.size ? `?${words}` : ""}`);
}

const chosenField = () => $("#filter-field").selectedOptions[0];

function offerOperators(chosen) {
  const field = chosenField();
  const operators = JSON.parse(field.dataset.ops);
  const usual = { text: "contains", time: "gte" }[field.dataset.widget];
  $("#filter-op").replaceChildren(...operators.map(([op, says]) => new Option(says, op, false, op === (chosen ?? usual ?? "eq"))));
  if (!$("#filter-op").value) $("#filter-op").selectedIndex = 0;
  offerValue();
}

function offerValue() {
  const field = chosenField();
  const op = $("#filter-op").value;
  const values = op === "isnull" ? ["true", "false"] : field.dataset.widget === "bool" ? ["true", "false"] : ["eq", "ne"].includes(op) ? JSON.parse(field.dataset.values) : [];
  let input;
  if (values.length) {
    input = document.createElement("select");
    input.append(...values.map((value) => new Option({ true: "yes", false: "no" }[value] ?? value, value)));
  } else {
    input = document.createElement("input");
    const kind = { number: "number", time: "datetime-local" }[field.dataset.widget];
    input.type = ["in", "notin"].includes(op) ? "text" : kind ?? "text";
    if (input.type === "number") input.step = "any";
    if (input.type === "datetime-local") input.step = "1";
    if (["in", "notin"].includes(op)) input.placeholder = "one, two, three";
    input.required = true;
    input.autocomplete = "off";
  }
  input.name = "value";
  $("#filter-value").replaceChildren("Value ", input);
}

function addFilter() {
  const op = $("#filter-op").value;
  const input = $("[name=value]", $("#filter-value"));
  const value = input.type === "datetime-local" ? new Date(input.value).toISOString() : input.value;
  const name = chosenField().value + (op === "eq" ? "" : `__${op}`);
  change(name, value, { drop: editing ? [editing] : [] });
}

let editing = null;
function editFilter(name, value) {
  const [field, op = "eq"] = name.split(/__(.*)/s);
  const option = $(`#filter-field option[value="${CSS.escape(field)}"]`);
  if (!option) return;
  editing = name;
  option.selected = true;
  offerOperators(op);
  const input = $("[name=value]", $("#filter-value"));
  input.value = input.type === "datetime-local" ? new Date(new Date(value).getTime() - new Date().getTimezoneOffset() * 60_000).toISOString().slice(0, 19) : value;
  setTimeout(() => { $("#add").open = true; input.focus(); });
  $("#add").addEventListener("toggle", () => { if (!$("#add")?.open) editing = null; });
}

// --- what changes ---

async function listen() {
  let last = null;
  for (let pause = 500; ; pause = Math.min(2 * pause, 5000)) {
    state("wait");
    try {
      const answer = await ask("api/sessions/events", { headers: { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) } });
      if (!answer.ok) throw new Gone(await detail(answer));
      state("on");
      pause = 500;
      changed(); // what happened between the first look and now
      for await (const event of events(answer.body)) {
        if (event.id) last = event.id;
        if (event.note === "away") { state("off"); away("The database cannot be reached."); }
        if (event.note === "back") { state("on"); reload(); }
        if (event.data) changed(JSON.parse(event.data));
      }
    } catch (error) {
      state("off");
      if (error instanceof Gone) away(error.message);
    }
    await sleep(pause);
  }
}

async function* events(body) {
  let rest = "";
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    rest += text;
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = {};
      for (const line of block.split("\n")) {
        if (line.startsWith("id: ")) event.id = line.slice(4);
        else if (line.startsWith("data: ")) event.data = line.slice(6);
        else if (line.startsWith(": ")) event.note = line.slice(2);
      }
      yield event;
    }
  }
}

function changed(event) {
  if (regions.has("session")) {
    if (!event || event.thread_id === new URLSearchParams(location.search).get("thread_id")) later("session");
    return;
  }
  later("counters");
  later("charts");
  if (!new URLSearchParams(location.search).has("cursor")) later("table");
}

function state(name) {
  const live = $("#live");
  live.dataset.state = name;
  $("span", live).textContent = { on: "live", wait: "connecting", off: "not connected" }[name];
}

// --- times as people say them ---

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "narrow" });
const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const day = new Intl.DateTimeFormat("en", { month: "short", day: "numeric" });
const long = new Intl.DateTimeFormat("en", { month: "short", day: "numeric", year: "numeric" });

function ago(at, now) {
  const seconds = (now - at) / 1000;
  if (seconds < 5) return "just now";
  if (seconds < 60) return relative.format(-Math.floor(seconds), "second");
  if (seconds < 3600) return relative.format(-Math.floor(seconds / 60), "minute");
  if (seconds < 86_400) return relative.format(-Math.floor(seconds / 3600), "hour");
  if (seconds < 7 * 86_400) return relative.format(-Math.floor(seconds / 86_400), "day");
  return (new Date(at).getFullYear() === new Date(now).getFullYear() ? day : long).format(at);
}

function tell() {
  const now = Date.now();
  for (const time of $$("time[datetime]")) {
    const at = Date.parse(time.dateTime);
    if (Number.isNaN(at)) continue;
    if (!time.title) time.title = clock.format(at);
    const text = "full" in time.dataset ? clock.format(at) : ago(at, now);
    if (time.textContent !== text) time.textContent = text;
  }
  for (const item of $$(".ticking")) {
    const seconds = Math.max(0, (now - Date.parse(item.dataset.since)) / 1000);
    item.textContent = seconds < 60 ? `${Math.floor(seconds)} s` : seconds < 3600 ? `${Math.floor(seconds / 60)} m ${String(Math.floor(seconds % 60)).padStart(2, "0")} s` : seconds >= 172_800 ? `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h` : `${Math.floor(seconds / 3600)} h ${String(Math.floor((seconds % 3600) / 60)).padStart(2, "0")} m`;
  }
}
setInterval(tell, 1000);

// --- keyboard ---

const rows = () => $$("#table tr[data-id]");
const chosenRow = () => $("#table tr[aria-selected=true]");

function choose(row, scroll = true) {
  chosenRow()?.removeAttribute("aria-selected");
  if (!row) return;
  row.setAttribute("aria-selected", "true");
  if (scroll) { row.scrollIntoView({ block: "nearest" }); $("a.open", row)?.focus({ preventScroll: true }); }
}

function step(by) {
  const all = rows();
  const now = all.indexOf(chosenRow());
  choose(all[now < 0 ? (by > 0 ? 0 : all.length - 1) : Math.max(0, Math.min(all.length - 1, now + by))]);
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  "/": () => $("#q")?.focus(),
  f: () => { const add = $("#add"); if (add) { editing = null; add.open = true; } },
  n: () => $("#next")?.click(),
  p: () => { if ($("#first")) history.back(); },
  c: () => $("#clear")?.click(),
  u: up,
  t: () => $("#theme").click(),
  "?": () => $("#help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    for (const pop of $$("details.pop[open]")) { pop.open = false; $("summary", pop).focus(); }
    if (event.target.matches("#q")) event.target.blur();
    return;
  }
  if (event.metaKey || event.ctrlKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
  if (KEYS[event.key]) { event.preventDefault(); KEYS[event.key](); }
});

$("#theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("session-store-theme", root.dataset.theme); } catch { /* for this page, then */ }
});
$("#keys").addEventListener("click", () => $("#help").showModal());
$("#forget").addEventListener("click", () => { token.set(null); location.reload(); });

reload(true);
listen();
