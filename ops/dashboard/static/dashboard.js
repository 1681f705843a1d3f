// Keeps a page up to date and makes it usable by keyboard. Everything it does, the server's HTML can do without.
"use strict";

const root = document.documentElement;
const main = document.getElementById("main");
root.classList.add("scripted");

// Times: the server writes UTC; a choice in the address or a cookie shows all of them otherwise ------------------------

const pad = (number, digits = 2) => String(number).padStart(digits, "0");

function local(at) {
  const day = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  const time = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}.${pad(at.getMilliseconds(), 3)}`;
  const offset = -at.getTimezoneOffset();
  return `${day} ${time} ${offset < 0 ? "-" : "+"}${pad(Math.floor(Math.abs(offset) / 60))}:${pad(Math.abs(offset) % 60)}`;
}

function ago(at) {
  const seconds = (Date.now() - at) / 1000;
  if (seconds < 1) return `${Math.max(0, Math.round(seconds * 1000))} ms ago`;
  if (seconds < 120) return `${Math.round(seconds)} s ago`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86400)} d ago`;
}

function utc(at) {
  return at.toISOString().replace("T", " ").replace("Z", " UTC");
}

const shown = { utc, local, ago };
const chosen = new URLSearchParams(location.search).get("times") || (document.cookie.match(/(?:^|; )times=(\w+)/) || [])[1];
let times = Object.hasOwn(shown, chosen) ? chosen : "utc";

function showTimes() {
  for (const one of document.querySelectorAll("time[datetime]")) {
    const said = times === "utc" && one.dataset.said;
    const text = said || shown[one.className === "since" ? "ago" : times](new Date(one.dateTime));
    if (one.textContent !== text) one.textContent = text;
  }
  for (const one of document.querySelectorAll("[data-times]")) one.setAttribute("aria-pressed", one.dataset.times === times);
}

function showAge() {
  const age = document.getElementById("age");
  if (!age) return;
  const at = new Date(age.dataset.seen);
  age.querySelector("[data-age]").textContent = ago(at);
  age.classList.toggle("stale", Date.now() - at > 5000);
}

// What is new goes into the page where it belongs: focus, selection, scrolling and opened parts stay -------------------

function same(old, made) {
  return old.nodeType === made.nodeType && old.nodeName === made.nodeName && (old.id || "") === (made.id || "");
}

function morph(old, made) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== made.nodeValue) old.nodeValue = made.nodeValue;
    return;
  }
  for (const { name, value } of [...made.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (!made.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  morphChildren(old, made);
}

function morphChildren(old, made) {
  const named = new Map([...old.children].filter((one) => one.id).map((one) => [one.id, one]));
  const stay = new Set([...made.children].map((one) => one.id).filter((id) => named.has(id)));
  let next = old.firstChild;
  const drop = () => {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  };
  for (const wanted of [...made.childNodes]) {
    const known = wanted.id && named.get(wanted.id);
    while (known && next && next !== known && !stay.has(next.id)) drop(); // what is moved would lose the focus
    if (known && known !== next) old.insertBefore(known, next);
    const found = known || (next && same(next, wanted) ? next : null);
    if (found) {
      morph(found, wanted);
      next = found.nextSibling;
    } else {
      old.insertBefore(wanted, next);
    }
  }
  while (next) drop();
}

let saidAt = 0;
let said = "";

function say() {
  const text = document.getElementById("sentence")?.dataset.say;
  if (!text || text === said || Date.now() - saidAt < 10000) return;
  if (said) document.getElementById("said").textContent = text;
  [said, saidAt] = [text, Date.now()];
}

function put(html) {
  const made = document.createElement("template");
  made.innerHTML = html;
  morphChildren(main, made.content);
  pick(pickedRow());
  showTimes();
  showAge();
  say();
}

// One connection a page, none while it is in the background -------------------------------------------------------------

let source = null;
let last = main.dataset.last || "";
let finished = false;

function listen() {
  if (!main.dataset.live || finished || document.hidden || source) return;
  const address = new URL(main.dataset.live, location.href);
  if (last) address.searchParams.set("after", last);
  source = new EventSource(address);
  const take = (event) => {
    last = event.lastEventId || last;
    main.dataset.events = Number(main.dataset.events || 0) + 1;
    put(event.data);
  };
  source.onmessage = take;
  source.addEventListener("trouble", (event) => {
    const told = document.getElementById("trouble") || main.insertBefore(document.createElement("p"), main.firstChild);
    Object.assign(told, { id: "trouble", className: "part-missing", textContent: event.data });
  });
  source.addEventListener("new", (event) => {
    document.getElementById("new-count").textContent = Number(event.data) < 50 ? event.data : "50 or more";
    document.getElementById("new").hidden = false;
  });
  source.addEventListener("finished", (event) => {
    finished = true;
    silence();
    take(event);
  });
  source.onerror = () => {
    if (source && source.readyState === EventSource.CLOSED) {
      silence();
      setTimeout(listen, 1000);
    }
  };
}

function silence() {
  if (source) source.close();
  source = null;
}

document.addEventListener("visibilitychange", () => (document.hidden ? silence() : listen()));

// Mouse and keys ---------------------------------------------------------------------------------------------------------

document.addEventListener("click", async (event) => {
  const copied = event.target.closest("[data-copy], [data-copy-link]");
  if (copied && copied.textContent !== "copied") {
    const { copy, copyLink } = copied.dataset;
    const text = copied.textContent;
    await navigator.clipboard.writeText(copy ?? new URL(copyLink, location.href).href.split("#")[0]).catch(() => {});
    copied.textContent = "copied";
    setTimeout(() => (copied.textContent = text), 1500);
  }
  if (event.target.id === "play") play(true);
  const choice = event.target.dataset.choose;
  for (const one of (choice && event.target.form.querySelectorAll("input[name=key]")) || []) one.checked = choice === "all";
  const picked = event.target.closest("[data-times]");
  if (picked) {
    times = picked.dataset.times;
    document.cookie = `times=${times}; path=/; max-age=31536000; SameSite=Strict`;
    const address = new URL(location.href);
    address.searchParams.set("times", times);
    history.replaceState(null, "", address);
    showTimes();
  }
});

// A moment a second, from the first if this is the last: each has an address, so playing goes from page to page.
function play(asked) {
  const button = document.getElementById("play");
  if (!button) return;
  const end = document.getElementById("cut").hasAttribute("data-end");
  let playing = sessionStorage.getItem("play") === location.pathname;
  if (asked) playing = !playing;
  else if (end) playing = false;
  if (playing) sessionStorage.setItem("play", location.pathname);
  else sessionStorage.removeItem("play");
  button.textContent = playing ? "stop" : "play";
  const follow = () => sessionStorage.getItem("play") && main.querySelector(`a[data-cut=${end ? "first" : "next"}]`).click();
  if (playing) setTimeout(follow, asked ? 0 : 1000);
}

// The list that one came from leads on: it is as it was shown, whatever has changed since.
function remember() {
  const rows = [...document.querySelectorAll("#orders a.id")].map((link) => link.pathname);
  if (rows.length) sessionStorage.setItem("list", JSON.stringify({ address: location.href, rows }));
  const nav = document.getElementById("in-list");
  const list = JSON.parse(sessionStorage.getItem("list") || "null");
  const at = nav && list ? list.rows.indexOf(location.pathname) : -1;
  if (at < 0) return;
  nav.hidden = false;
  document.getElementById("list-back").href = Object.assign(new URL(list.address), { hash: `order-${list.rows[at].split("/").pop()}` });
  for (const [id, path] of [["list-previous", list.rows[at - 1]], ["list-next", list.rows[at + 1]]]) {
    const link = document.getElementById(id);
    link.hidden = !path;
    if (path) link.href = path;
  }
}

// The row that was looked at last is in the address, so a link, a reload and the way back lead to it.
function pickedRow() {
  try {
    const found = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    return found?.matches("main [data-row]") ? found : null;
  } catch {
    return null; // an address that somebody has cut
  }
}

function pick(row) {
  if (!row?.id) return;
  for (const one of main.querySelectorAll("[data-row][aria-current]")) if (one !== row) one.removeAttribute("aria-current");
  row.setAttribute("aria-current", "true");
  if (pickedRow() !== row) history.replaceState(history.state, "", `#${encodeURIComponent(row.id)}`);
}

main.addEventListener("focusin", (event) => pick(event.target.closest("[data-row]")));

function step(by) {
  const rows = [...main.querySelectorAll("[data-row]")];
  const focused = rows.findIndex((row) => row.contains(document.activeElement));
  const now = focused < 0 ? rows.indexOf(pickedRow()) : focused;
  const row = rows[Math.min(rows.length - 1, Math.max(0, now + by))];
  if (row) row.querySelector("a, button").focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog[open]")) return;
  const link = { ArrowLeft: "previous", ArrowRight: "next", Home: "first", End: "last" }[event.key];
  if (event.key === "/") document.getElementById("find").focus();
  else if (event.key === "?") document.getElementById("help").showModal();
  else if (event.key === "j" || event.key === "k") step(event.key === "j" ? 1 : -1);
  else if (link && main.querySelector(`a[data-cut=${link}]`)) main.querySelector(`a[data-cut=${link}]`).click();
  else return;
  event.preventDefault();
});

showTimes();
showAge();
say();
pick(pickedRow());
listen();
remember();
play(false);
setInterval(() => {
  showAge();
  showTimes();
}, 1000);
