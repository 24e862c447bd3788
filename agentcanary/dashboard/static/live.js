// Keeps a page fresh: asks for the part of it that changes, and replaces the sections that are different.
// Without this script the page is complete; it is then as old as it says.
"use strict";

const EVERY = 3000;
const page = document.querySelector("[data-live-page]");
let tag = "";
let failures = 0;

function busy(section) {
  // Nothing is taken from under somebody's hands: a form that is open, a text that is being selected.
  const selection = window.getSelection();
  return (
    section.contains(document.activeElement) ||
    section.querySelector("details[data-form][open]") !== null ||
    (selection && !selection.isCollapsed && section.contains(selection.anchorNode))
  );
}

function keepOpen(from, to) {
  for (const details of from.querySelectorAll("details[id]")) {
    const same = to.querySelector("#" + CSS.escape(details.id));
    if (same) same.open = details.open;
  }
}

async function fetched(picture) {
  // The new chart is loaded before the old one goes.
  for (const source of picture.querySelectorAll("source")) {
    if (!source.media || window.matchMedia(source.media).matches) {
      await fetch(source.srcset, { credentials: "same-origin" }).catch(() => {});
      return;
    }
  }
}

async function replace(old, fresh) {
  const charts = new Map([...old.querySelectorAll("picture[data-key]")].map((one) => [one.dataset.slot, one]));
  const news = [...fresh.querySelectorAll("picture[data-key]")];
  const changed = news.filter((one) => {
    const before = charts.get(one.dataset.slot);
    return before && before.dataset.key !== one.dataset.key;
  });
  // A chart that is the same stays the same element, so that nothing flickers.
  for (const one of news) {
    const before = charts.get(one.dataset.slot);
    if (before && before.dataset.key === one.dataset.key) one.replaceWith(before.cloneNode(true));
  }
  await Promise.all(changed.map(fetched));
  keepOpen(old, fresh);
  if (!busy(old)) old.replaceWith(fresh);
}

async function refresh() {
  const address = new URL(window.location.href);
  address.searchParams.delete("done");
  address.searchParams.set("part", "1");
  address.hash = "";
  const headers = tag ? { "If-None-Match": tag } : {};
  const answer = await fetch(address, { headers, credentials: "same-origin", cache: "no-store" });
  if (answer.status === 401) throw new Error("signed out");
  if (answer.status !== 304 && !answer.ok) throw new Error("status " + answer.status);
  if (answer.status === 304) return;
  tag = answer.headers.get("etag") || "";
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const waiting = [];
  for (const section of fresh.querySelectorAll("[data-live]")) {
    const old = document.getElementById(section.id);
    if (!old) {
      const parent = document.querySelector("[data-live-page]");
      const before = section.nextElementSibling && document.getElementById(section.nextElementSibling.id);
      parent.insertBefore(document.importNode(section, true), before || null);
    } else if (old.dataset.text !== section.outerHTML && !busy(old)) {
      const next = document.importNode(section, true);
      next.dataset.text = section.outerHTML;
      waiting.push(replace(old, next));
    }
  }
  for (const old of [...page.querySelectorAll("[data-live]")]) {
    if (!fresh.getElementById(old.id) && !busy(old)) old.remove();
  }
  await Promise.all(waiting);
}

function show(state, words) {
  const sign = document.getElementById("liveness");
  if (sign.dataset.state !== state) {
    sign.dataset.state = state;
    sign.textContent = words;
  }
}

async function follow() {
  if (!document.hidden) {
    try {
      await refresh();
      failures = 0;
      show("live", "live");
    } catch (error) {
      failures += 1;
      if (String(error.message) === "signed out") {
        show("lost", "signed out: load the page again");
        return;
      }
      if (failures > 1) show("lost", "no connection: what is shown may be old");
    }
  }
  window.setTimeout(follow, Math.min(EVERY * (failures + 1), 15000));
}

// Escape closes an open form, as people expect of a dialogue.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = document.querySelector("details[data-form][open]");
  if (open) {
    open.open = false;
    open.querySelector("summary").focus();
  }
});

if (page) {
  for (const section of page.querySelectorAll("[data-live]")) section.dataset.text = section.outerHTML;
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) refresh().catch(() => {});
  });
  window.setTimeout(follow, EVERY);
}
