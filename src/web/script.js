"use strict";

// What the page says, made of the elements of elements.js.
const MATTERS_MAX = 12;
const RUNS_FIRST = 24;
const CELLS_MAX = 600;
// A connection that is not back after this time is said to be gone.
const SILENCE_MS = 5000;

// --- what a run is

const isThere = (run) => run.state === "completed" && run.destinations.every((to) => to.completed_count >= to.file_count);

function kindOf(run) {
  if (run.destinations.some((to) => to.parked_count) || run.stale) return "bad";
  if (run.state === "gone") return "idle";
  if (isThere(run)) return "good";
  if (run.destinations.some((to) => to.rate_per_second)) return "move";
  return run.state === "open" ? "idle" : "wait";
}

function wordsOf(run) {
  const parked = run.destinations.reduce((sum, to) => sum + to.parked_count, 0);
  if (parked) return `${counted(parked, "file needs someone", "files need someone")}`;
  if (run.stale) return "open for too long";
  if (run.state === "gone") return "was taken away";
  if (isThere(run)) return "all there";
  if (run.destinations.some((to) => to.stalled_since)) return "nothing moves";
  if (run.destinations.some((to) => to.rate_per_second)) return run.state === "open" ? "open, sending" : "sending";
  return { open: "open: more may come", closed: "waiting", completed: "late files" }[run.state] ?? run.state;
}

function destinationOfRun(run, to) {
  const name = address(to.url)
    ? el("a", { href: to.url, target: "_blank", rel: "noopener noreferrer" }, to.name, el("span.away", null, " ↗ at the platform"))
    : el("span", null, to.name);
  const byBytes = to.bytes > 0;
  const [part, whole] = byBytes ? [to.accepted_bytes, to.bytes] : [to.completed_count, to.file_count];
  const isOver = whole > 0 && part >= whole;
  const facts = [`${to.completed_count} of ${counted(to.file_count, "file")}`];
  if (byBytes) facts.push(isOver ? bytes(whole) : `${bytes(part)} of ${bytes(whole)}`);
  if (to.rate_per_second && !isOver) facts.push(`${bytes(to.rate_per_second)}/s`);
  if (to.seconds_left) facts.push(`about ${duration(to.seconds_left)} left`);
  if (to.stalled_since) facts.push(`nothing has moved for ${duration((Date.now() - new Date(to.stalled_since)) / 1000)}`);
  if (to.parked_count) facts.push(`${to.parked_count} parked`);
  return el("li", { "data-key": to.name },
    el("div.line", null, el("b", null, name),
      el("span.number", null, isOver && run.state === "open" ? "all so far" : `${percent(part, whole)} %`)),
    bar(part, whole, `${run.name} at ${to.name}`),
    el("p.facts", null, facts.join(" · ")));
}

function runTimes(run) {
  const parts = [];
  if (run.last_activity_at) parts.push(["last activity ", moment(run.last_activity_at)]);
  if (run.completed_at) parts.push(["complete ", moment(run.completed_at)]);
  else if (run.opened_at) parts.push(["seen first ", moment(run.opened_at)]);
  if (run.wave_count > 1) parts.push([`${run.wave_count} waves`]);
  return el("p.facts", null, parts.flatMap((part, index) => (index ? [" · ", ...part] : part)));
}

function runCard(run) {
  const reason = run.reason;
  const kind = kindOf(run);
  return el(`article.card.${kind}`, { "data-key": `${run.drop}/${run.name}` },
    el("h3", null, el("a", { href: runPath(run.drop, run.name) }, run.name)),
    el("p.from", null, `from ${run.drop}`),
    el("p", null, badge(kind, wordsOf(run))),
    reason && kind !== "good" ? el("p.why", null, reason.text) : null,
    reason && kind !== "good" ? cure(reason.cure) : null,
    el("ul.plain", null, run.destinations.map((to) => destinationOfRun(run, to))),
    runTimes(run));
}

// --- files

const UPLOAD_KINDS = { parked: "bad", sending: "move", waiting: "wait", queued: "idle", completed: "good" };
const UPLOAD_WORDS = { parked: "needs someone", completed: "there", abandoned: "given up" };

function uploadState(up) {
  return badge(UPLOAD_KINDS[up.state] ?? "idle", UPLOAD_WORDS[up.state] ?? up.state);
}

/** When something is tried again; a time that has passed is that of a try under way. */
const again = (at) => (Date.parse(at) > Date.now() ? ["tried again ", moment(at)] : ["being tried again"]);

function uploadLine(up, index, list) {
  // What holds many up is said once.
  const before = index ? list[index - 1].reason?.text : null;
  const reason = up.reason?.text === before ? null : up.reason;
  const done = up.accepted_bytes + (up.in_flight_bytes ?? 0);
  const facts = up.state === "completed" ? [bytes(up.size_bytes)]
    : [`${bytes(up.accepted_bytes)} of ${bytes(up.size_bytes)}`];
  if (up.sent_again_bytes) facts.push(`${bytes(up.sent_again_bytes)} sent again`);
  return el("li", { "data-key": `u${up.id}` },
    el("div.line", null, el("a", { href: `${UP}uploads/${up.id}` }, pathOf(up.path)), uploadState(up)),
    up.state === "completed" ? null : bar(done, up.size_bytes, up.path),
    el("p.facts", null, `to ${up.destination} · ${facts.join(" · ")}`,
      up.retry_at ? [" · ", ...again(up.retry_at)] : ""),
    reason ? el("p.why", null, reason.text) : null,
    reason ? cure(reason.cure) : null);
}

function uploadList(title, uploads, more) {
  if (!uploads.length) return null;
  return el("section", { "data-key": title }, el("h2", null, title),
    el("ul.plain.rows", null, uploads.map(uploadLine)),
    more ? el("p.facts", null, more) : null);
}

// --- destinations and drop directories

const DESTINATION_KINDS = { ok: "good", unknown: "idle", paused: "idle", throttled: "wait", unreachable: "wait", halted: "bad" };
const DESTINATION_WORDS = {
  ok: "ok", unknown: "not asked yet", paused: "paused", throttled: "slowed down by the platform",
  unreachable: "cannot be reached", halted: "refuses us",
};

function destinationCard(to) {
  const reason = to.reason;
  const kind = DESTINATION_KINDS[to.state] ?? "wait";
  const facts = [to.platform];
  if (to.rate_per_second) facts.push(`${bytes(to.rate_per_second)}/s`);
  if (to.parts_in_flight) facts.push(`${counted(to.parts_in_flight, "part")} in flight`);
  return el(`article.card.${kind}`, { "data-key": to.name },
    el("h3", null, to.name),
    el("p", null, badge(kind, DESTINATION_WORDS[to.state] ?? to.state),
      to.state !== "ok" && to.since ? [" for ", since(to.since)] : ""),
    reason ? el("p.why", null, reason.text) : null,
    reason ? cure(reason.cure) : null,
    to.next_try_at ? el("p.facts", null, ...again(to.next_try_at)) : null,
    el("p.facts", null, facts.join(" · ")));
}

const WATCH_WORDS = { events: "watched", scanning: "looked through at intervals", deaf: "cannot be read" };

function dropCard(drop) {
  const reason = drop.reason;
  const kind = { events: "good", scanning: "good", deaf: "bad" }[drop.watch] ?? "idle";
  return el(`article.card.${kind}`, { "data-key": drop.name },
    el("h3", null, drop.name),
    el("p", null, badge(kind, WATCH_WORDS[drop.watch] ?? drop.watch)),
    reason ? el("p.why", null, reason.text) : null,
    reason ? cure(reason.cure) : null,
    el("p.facts", null, el("code", null, drop.directory)),
    drop.last_full_scan_at ? el("p.facts", null, "looked through ", moment(drop.last_full_scan_at)) : null);
}

function cards(title, list) {
  return list.length ? el("section", { "data-key": title }, el("h2", null, title), el("div.cards", null, list)) : null;
}

// --- what needs someone

// Of a run's own page its name is left out.
function matterLine(matter, own) {
  const what = [matter.what === own ? null : matter.what, matter.count > 1 ? `(${matter.count})` : null].filter(Boolean).join(" ");
  return el("li", null, what ? el("b", null, pathOf(what), ": ") : null, matter.text, cure(matter.cure));
}

function banner(status) {
  const matters = status.attention ?? [];
  const away = status.destinations.filter((to) => !["ok", "unknown"].includes(to.state));
  const still = new Set(status.runs.flatMap((run) => run.destinations.filter((to) => to.stalled_since).map((to) => to.name)));
  const orders = status.orders ?? [];
  let kind = "good";
  let said = "All well";
  if (!status.daemon.running) [kind, said] = ["bad", "dropferry is not running"];
  else if (matters.length) [kind, said] = ["bad", `${counted(matters.length, "thing needs", "things need")} someone`];
  else if (away.length) {
    [kind, said] = ["wait", `Nothing to do: ${away.map((to) => `${to.name} ${DESTINATION_WORDS[to.state] ?? to.state}`).join(", ")}`];
  } else if (still.size) [kind, said] = ["wait", `Nothing to do: nothing moves to ${[...still].join(", ")}, it is tried again by itself`];
  else if (orders.length) [kind, said] = ["wait", `Paused: ${orders.map((order) => order.of).join(", ")}`];
  const more = matters.length - MATTERS_MAX;
  return [kind, said, el(`section.banner.${kind}`, { "data-key": "banner", "aria-label": "What needs someone" },
    el("h1", null, el("span.sign", { "aria-hidden": "true" }, SIGNS[kind]), " ", said),
    el("p.sums", null, sums(status)),
    matters.length ? null : status.runs.filter((run) => kindOf(run) !== "good" && run.state !== "gone").slice(0, 3).map((run) =>
      el("p", null, el("b", null, pathOf(run.name)), ": ", wordsOf(run), run.reason && !away.length ? `, ${run.reason.text}` : "")),
    matters.length ? null : away.filter((to) => to.reason).map((to) => el("p.why", null,
      away.length > 1 ? `${to.name}: ` : "", to.reason.text, to.next_try_at ? [", ", ...again(to.next_try_at)] : "")),
    matters.length ? el("ul", null, matters.slice(0, MATTERS_MAX).map((matter) => matterLine(matter))) : null,
    more > 0 ? el("p", null, `and ${more} more: dropferry status`) : null,
    status.notices?.failure ? el("p.why", null, `People are not told: ${status.notices.failure}`) : null)];
}

function sums(status) {
  const { bytes: total, counts } = status;
  const said = ["settling", "queued", "sending", "waiting", "parked"]
    .filter((state) => counts[state])
    .map((state) => `${counts[state]} ${state}`);
  if (total.total > total.accepted) {
    said.push(`${bytes(total.accepted)} of ${bytes(total.total)} there`);
    if (total.rate_per_second) said.push(`${bytes(total.rate_per_second)}/s`);
    if (total.seconds_left) said.push(`about ${duration(total.seconds_left)} left`);
  } else if (counts.completed) said.push(`${counted(counts.completed, "file")} there, nothing on the way`);
  else said.push("nothing on the way");
  return said.join(" · ");
}

// --- the three views: each returns [kind, words for the title, top, sections]

let all = false;
let found = null;

function overview(status) {
  const [kind, said, top] = banner(status);
  const text = byId("q").value.trim().toLowerCase();
  const order = ["bad", "move", "wait", "idle", "good"];
  const runs = status.runs
    .filter((run) => !text || `${run.drop}/${run.name}`.toLowerCase().includes(text))
    .sort((one, other) => order.indexOf(kindOf(one)) - order.indexOf(kindOf(other)));
  const first = all || text ? runs : runs.slice(0, RUNS_FIRST);
  const open = status.uploads.filter((up) => ["sending", "waiting", "parked", "queued"].includes(up.state)).slice(0, 20);
  const openCount = ["sending", "waiting", "parked", "queued"].reduce((sum, state) => sum + (status.counts[state] ?? 0), 0);
  const more = el("button", { type: "button", "data-do": "all" }, `Show ${runs.length - first.length} more runs`);
  return [kind, said, top, [
    el("section", { "data-key": "runs" }, el("h2", null, "Runs"),
      first.length ? el("div.cards", null, first.map(runCard)) : el("p.facts", null, text ? "no run of that name among the newest" : "no run yet"),
      runs.length > first.length ? el("p", null, more) : null),
    text && found ? uploadList("Files found", found, found.length >= 200 ? "the first 200 are shown" : null)
      ?? el("p.facts", { "data-key": "none" }, "no file of that name") : null,
    text ? null : uploadList("Files on the way", open, openCount > open.length ? `and ${openCount - open.length} more` : null),
    cards("Destinations", status.destinations.map(destinationCard)),
    cards("Drop directories", status.drops.map(dropCard)),
    plots(),
  ]];
}

function runView(status) {
  const run = status.runs[0];
  const [drop, name] = run ? [run.drop, run.name] : [status.uploads[0].drop, status.uploads[0].path];
  const kind = run ? kindOf(run) : UPLOAD_KINDS[status.uploads[0].state] ?? "idle";
  const words = run ? wordsOf(run) : UPLOAD_WORDS[status.uploads[0].state] ?? status.uploads[0].state;
  const reason = run ? run.reason : null;
  const matters = status.attention ?? [];
  const top = el(`section.banner.${kind}`, { "data-key": "banner", "aria-label": "The run" },
    el("h1", null, pathOf(name)),
    el("p.from", null, `from ${drop}`, run?.name_now ? `, now called ${run.name_now}` : ""),
    el("p", null, badge(kind, words)),
    reason ? el("p.why", null, reason.text) : null,
    reason ? cure(reason.cure) : null,
    matters.length ? el("ul", null, matters.slice(0, MATTERS_MAX).map((matter) => matterLine(matter, `${drop}/${name}`))) : null,
    run ? runTimes(run) : null);
  const text = byId("q").value.trim();
  const files = text && found ? found : status.uploads;
  const total = Object.entries(status.counts).filter(([state]) => !["settling", "ignored"].includes(state))
    .reduce((sum, [, count]) => sum + (count ?? 0), 0);
  return [kind, `${words}: ${name}`, top, [
    run ? el("section.card", { "data-key": "to" }, el("h2", null, "At its destinations"),
      el("ul.plain", null, run.destinations.map((to) => destinationOfRun(run, to)))) : null,
    uploadList("Files", files, !text && total > files.length ? `${files.length} of ${total} are shown: search for others` : null)
      ?? el("p.facts", { "data-key": "none" }, text ? "no file of that name" : "no file yet"),
    (status.ignored ?? []).length ? el("section", { "data-key": "ignored" }, el("h2", null, "Not uploaded"),
      el("ul.plain.rows", null, status.ignored.slice(0, 50).map((file) => el("li", null, el("b", null, file.path), " ", file.reason.text)))) : null,
  ]];
}

const PARTS = { w: "waiting", f: "in flight", a: "accepted", r: "reported", p: "partly accepted" };

// Each cell is one part, or some of a file of many.
function cells(map) {
  const step = Math.ceil(map.length / CELLS_MAX);
  const made = [];
  for (let at = 0; at < map.length; at += step) {
    const some = map.slice(at, at + step);
    const letters = new Set(some.toLowerCase());
    const kind = letters.size === 1 ? [...letters][0] : letters.has("f") ? "f" : letters.has("w") ? "p" : "a";
    const again = /[A-Z]/.test(some) ? ".again" : "";
    const number = step > 1 ? `${at + 1} to ${Math.min(at + step, map.length)}` : at + 1;
    made.push(el(`i.${kind}${again}`, { title: `part ${number}: ${PARTS[kind]}${again ? ", sent again" : ""}` }));
  }
  return made;
}

function partMap(map) {
  if (!map) return el("p.facts", { "data-key": "map" }, "Its parts are not kept any more.");
  const count = (letter) => [...map.toLowerCase()].filter((part) => part === letter).length;
  const again = [...map].filter((part) => part >= "A" && part <= "Z").length;
  const counts = Object.keys(PARTS).map((letter) => [letter, count(letter)]).filter(([letter, some]) => some && letter !== "p");
  const said = counts.map(([letter, some]) => `${some} ${PARTS[letter]}`).concat(again ? [`${again} sent again`] : []);
  return el("section", { "data-key": "map" }, el("h2", null, "Parts"),
    el("div.map", { role: "img", "aria-label": `${counted(map.length, "part")}: ${said.join(", ")}` }, cells(map)),
    el("ul.legend", null,
      counts.map(([letter, some]) => el("li", null, el(`i.${letter}`), ` ${some} ${PARTS[letter]}`)),
      again ? el("li", null, el("i.w.again"), ` ${again} sent again`) : null));
}

function uploadView({ upload: up, part_map: map }) {
  const kind = UPLOAD_KINDS[up.state] ?? "idle";
  const words = UPLOAD_WORDS[up.state] ?? up.state;
  const reason = up.reason;
  const top = el(`section.banner.${kind}`, { "data-key": "banner", "aria-label": "The upload" },
    el("h1", null, pathOf(up.path)),
    el("p.from", null, "from ", up.drop, " to ", up.destination,
      up.run ? [" · ", el("a", { href: runPath(up.drop, up.run) }, "its run")] : ""),
    el("p", null, uploadState(up)),
    up.state === "completed" ? null : bar(up.accepted_bytes + (up.in_flight_bytes ?? 0), up.size_bytes, up.path),
    reason ? el("p.why", null, reason.text) : null,
    reason ? cure(reason.cure) : null,
    up.retry_at ? el("p.facts", null, ...again(up.retry_at)) : null);
  const facts = [
    ["Accepted", `${bytes(up.accepted_bytes)} of ${bytes(up.size_bytes)}, ${up.accepted_part_count} of ${counted(up.part_count, "part")} of ${bytes(up.part_size_bytes)}`],
    ["Sent again", up.sent_again_bytes ? bytes(up.sent_again_bytes) : null],
    ["Failed attempts", up.attempt_count || null],
    ["Last error", reason?.text === up.last_error ? null : up.last_error],
    ["Begun", up.begun_at ? moment(up.begun_at) : null],
    ["Completed", up.completed_at ? moment(up.completed_at) : null],
    ["Verified", up.verified_at ? moment(up.verified_at) : null],
    ["Receipt", up.receipt ? `${up.receipt}, line ${up.receipt_line}` : null],
    ["At the platform", up.remote_id],
    ["Upload", up.id],
  ];
  const attempts = (up.attempts ?? []).map((attempt) => el("li", null,
    el("b", null, attempt.act, attempt.part ? ` ${attempt.part}` : ""), " ", moment(attempt.at),
    el("p.why", null, attempt.message),
    el("p.facts", null, [attempt.kind, attempt.status ? `status ${attempt.status}` : null,
      attempt.request_id ? `request ${attempt.request_id}` : null].filter(Boolean).join(" · "))));
  return [kind, `${words}: ${up.path}`, top, [
    partMap(map),
    el("section", { "data-key": "facts" }, el("h2", null, "Facts"),
      el("dl", null, facts.filter(([, fact]) => fact !== null && fact !== undefined)
        .map(([name, fact]) => el("div", null, el("dt", null, name), el("dd", null, fact))))),
    attempts.length ? el("section", { "data-key": "attempts" }, el("h2", null, "Failed attempts"), el("ul.plain.rows", null, attempts)) : null,
  ]];
}

// --- the page

// The path below the page's own, as it stands: its parts are encoded already.
const path = location.pathname.slice(new URL(UP, location.href).pathname.length);
const which = path.startsWith("runs/") ? "run" : path.startsWith("uploads/") ? "upload" : "overview";
const views = { overview, run: runView, upload: uploadView };
let state = JSON.parse(byId("data").textContent);
let daemon = which === "upload" ? null : state;
let gone = null;

function icon(kind) {
  const [colour, sign] = { bad: ["%23b3261e", "!"], good: ["%231b7f3b", "✓"] }[kind] ?? ["%23555", "…"];
  return `data:image/svg+xml,<svg xmlns='${SVG}' viewBox='0 0 16 16'><circle cx='8' cy='8' r='8' fill='${colour}'/>` +
    `<text x='8' y='12' font-size='12' text-anchor='middle' fill='white'>${sign}</text></svg>`;
}

function silentBanner() {
  return el("section.banner.bad", { "data-key": "gone", "aria-label": "No answer" },
    el("h1", null, el("span.sign", { "aria-hidden": "true" }, SIGNS.bad), " No answer from dropferry"),
    el("p.why", null, gone),
    cure("on its machine: systemctl status dropferry says why, systemctl start dropferry starts it"));
}

function show() {
  const [kind, words, top, sections] = views[which](state);
  const host = daemon?.host ?? location.hostname;
  byId("host").textContent = shown(host);
  morphChildren(byId("top"), gone ? [silentBanner(), kind === "good" ? null : top].filter(Boolean) : [top]);
  morphChildren(byId("view"), sections.filter(Boolean));
  const said = gone ? `No answer from dropferry: ${gone}` : words;
  if (byId("said").textContent !== shown(said)) byId("said").textContent = shown(said);
  document.title = shown(`${gone ? "no answer" : words} — ${host}`);
  document.querySelector("link[rel=icon]").href = icon(gone ? "bad" : kind);
  document.body.classList.toggle("stale", Boolean(gone));
  const live = gone ? [badge("bad", "no answer")]
    : daemon?.daemon?.version ? [`version ${daemon.daemon.version}, running for `, since(daemon.daemon.started_at)] : [];
  morphChildren(byId("live"), [el("span", { "data-key": "live" }, live)]);
}

async function ask(path) {
  const answer = await fetch(UP + path);
  if (answer.status === 401) location.reload();
  if (!answer.ok) throw new Error(`status ${answer.status}: ${(await answer.text()).trim()}`);
  return answer.json();
}

let busy = false;
async function take(fresh) {
  daemon = fresh;
  if (which === "overview") state = fresh;
  else if (!busy) {
    busy = true;
    try {
      state = await ask(`api/${path}`);
    } finally {
      busy = false;
    }
  }
  gone = null;
  show();
}

let events = null;
let silence = null;
const failed = (why) => {
  gone = `${why}; what follows is old`;
  show();
};

function heard() {
  clearTimeout(silence);
  silence = null;
}

function follow() {
  if (events || document.hidden) return;
  events = new EventSource(`${UP}api/events`);
  events.onopen = heard;
  events.onmessage = (event) => take(JSON.parse(event.data)).catch((error) => failed(error.message));
  events.onerror = () => {
    silence ??= setTimeout(() => failed("it says nothing"), SILENCE_MS);
    // It was refused: there are too many listeners, or the login has expired.
    if (events.readyState === EventSource.CLOSED) {
      events = null;
      ask("api/page").then(take).then(heard, () => {});
      setTimeout(follow, SILENCE_MS);
    }
  };
}

async function remember() {
  if (which !== "overview" || document.hidden) return;
  try {
    sent = await ask("api/history");
    show();
  } catch {
    // The events say that nobody answers.
  }
}

let typed = null;
byId("q").addEventListener("input", () => {
  clearTimeout(typed);
  typed = setTimeout(async () => {
    const text = byId("q").value.trim();
    const [, drop, ...run] = path.split("/");
    const of = which === "run" ? `&drop=${drop}&run=${run.join("/")}` : "";
    found = text.length > 1 ? (await ask(`api/files?q=${encodeURIComponent(text)}${of}`)).uploads : null;
    show();
  }, 250);
  show();
});
byId("search").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("click", (event) => {
  if (event.target.closest?.("[data-do=all]")) {
    all = true;
    show();
  }
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    follow();
    remember();
    return;
  }
  // Browsers keep few connections to a host, and a page that nobody sees needs none.
  events?.close();
  events = null;
  heard();
});

byId("search").hidden = which === "upload";
if (which === "run") document.querySelector("label[for=q]").textContent = "Search the files of this run";
show();
follow();
remember();
setInterval(remember, 10000);
// What is so many seconds ago grows older without an event.
setInterval(() => document.hidden || show(), 5000);
