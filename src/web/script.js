"use strict";

// Everything shown is set as text, never as markup: names of files come from anywhere.
const byId = (id) => document.getElementById(id);
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const LINES_MAX = 50;

// Characters that control, turn or hide what is around them are written out, as in every other place.
const MISLEADING =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

function shown(text) {
  return String(text ?? "").replace(MISLEADING, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

function bytes(count) {
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit ? count.toFixed(1) : count} ${UNITS[unit]}`;
}

function moment(text) {
  return text ? new Date(text).toLocaleString() : "";
}

function row(cells, kind) {
  const line = document.createElement("tr");
  if (kind) line.className = kind;
  for (const cell of cells) {
    const place = document.createElement("td");
    if (cell instanceof Node) place.append(cell);
    else place.textContent = shown(cell);
    line.append(place);
  }
  return line;
}

function bar(part, whole) {
  const progress = document.createElement("progress");
  progress.max = Math.max(whole, 1);
  progress.value = whole ? part : 1;
  progress.title = `${part} of ${whole}`;
  return progress;
}

function runs(status) {
  const lines = [];
  for (const run of status.runs) {
    for (const to of run.destinations) {
      const all = to.completed === to.uploads;
      const said = run.state === "completed" && all ? "all there" : run.reason ?? run.state;
      const kind = to.parked ? "bad" : run.state === "completed" ? "good" : "";
      const files = document.createElement("span");
      files.append(bar(to.completed, to.uploads), ` ${to.completed} of ${to.uploads}`);
      const parked = to.parked ? `${to.parked} parked` : said;
      lines.push(row([`${run.drop}/${run.name}`, to.name, files, parked], kind));
    }
  }
  return lines.length ? lines : [row(["none yet"])];
}

function uploads(status) {
  const open = status.uploads.filter((up) => ["sending", "waiting", "queued"].includes(up.state));
  const lines = open.slice(0, LINES_MAX).map((up) =>
    row([up.path, up.destination, bar(up.accepted_bytes, up.size_bytes), up.reason ?? up.state]));
  const more = open.length - LINES_MAX + status.uploads_left_out;
  if (more > 0) lines.push(row([`and ${more} more`]));
  return lines.length ? lines : [row(["nothing"])];
}

function places(status) {
  const drops = status.drops.map((drop) =>
    row([`${drop.name} (${drop.directory})`, drop.watch, moment(drop.last_full_scan_at), drop.reason],
      drop.watch === "deaf" ? "bad" : ""));
  const destinations = status.destinations.map((to) =>
    row([`${to.name} (${to.platform})`, to.state, moment(to.since), to.reason],
      to.state === "ok" ? "" : "bad"));
  return drops.concat(destinations);
}

function troubles(status) {
  const said = [];
  for (const drop of status.drops) {
    if (drop.watch === "deaf") said.push(`drop ${drop.name} is deaf: ${drop.reason}`);
  }
  for (const to of status.destinations) {
    if (to.state !== "ok") said.push(`${to.name} is ${to.state}: ${to.reason ?? ""}`);
  }
  for (const order of status.orders ?? []) said.push(`${order.of} is ${order.standing}`);
  const parked = status.uploads.filter((up) => up.state === "parked");
  for (const up of parked.slice(0, LINES_MAX)) said.push(`${up.path} is parked: ${up.reason}`);
  if (status.counts.parked > parked.length) said.push(`${status.counts.parked} files are parked`);
  if (status.notices.failure) said.push(`people are not told: ${status.notices.failure}`);
  return said.map((text) => {
    const item = document.createElement("li");
    item.textContent = shown(text);
    return item;
  });
}

function show(status) {
  const { bytes: total, daemon } = status;
  byId("state").textContent = daemon.running
    ? `version ${daemon.version} is running since ${moment(daemon.started_at)}`
    : "is not running";
  const trouble = troubles(status);
  byId("trouble").hidden = !trouble.length;
  byId("trouble-list").replaceChildren(...trouble);
  byId("runs").replaceChildren(...runs(status));
  byId("uploads").replaceChildren(...uploads(status));
  byId("places").replaceChildren(...places(status));
  const rate = total.rate_per_second ? `, ${bytes(total.rate_per_second)}/s` : "";
  byId("total").textContent = `${bytes(total.accepted)} of ${bytes(total.total)} there${rate}`;
}

async function look() {
  try {
    const answer = await fetch("api/status");
    if (!answer.ok) throw new Error(await answer.text());
    show(await answer.json());
    document.body.classList.remove("stale");
  } catch (error) {
    byId("state").textContent = `no answer: ${error.message}; what follows is old`;
    document.body.classList.add("stale");
  }
  setTimeout(look, document.hidden ? 30000 : 3000);
}

look();
