// The live page: one event stream in, the latest state drawn. Plain JavaScript, no build step, no other host.
"use strict";

const token = new URLSearchParams(location.search).get("token");
const withToken = (path) => (token ? `${path}?token=${encodeURIComponent(token)}` : path);
const $ = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const rows = new Map(); // subject -> {li, cells, rank}
const dots = new Map(); // subject -> {x, y, tx, ty, hue, name, rank}: shown and target position in metres
const RANK_EVERY_MS = 1500; // heart rate and speed change as they come, places and distances together at a pace an eye can follow
const LONG_LIST = 40; // from here on a phone scrolls the list inside its own box
const FEW = 28; // up to here a wide screen has room for taller rows
const hall = matchMedia("(min-width: 1700px)"); // nobody scrolls there: show who fits, count the others
let latest = null;
let ranked = -Infinity; // when places were last shown
let view = null; // box of the map in metres; only grows, so that it does not shake

const number = (value, digits = 0) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const grouped = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en").replaceAll(",", "\u2009"));
const metres = (m) => (m === null || m === undefined ? "–" : m < 10000 ? `${grouped(m)} m` : `${(m / 1000).toFixed(2)} km`);

function hueOf(subject) {
  let h = 7;
  for (const c of subject) h = (h * 31 + c.codePointAt(0)) % 9973;
  return (h * 137) % 360;
}

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function makeRow(athlete) {
  const li = element("li", "row");
  const rank = element("span", "rank");
  const dot = element("span", "dot");
  dot.style.background = `hsl(${hueOf(athlete.subject)} 75% 55%)`;
  const place = element("span");
  rank.append(dot, place);
  const name = element("span", "name");
  const label = element("span");
  const status = element("small");
  name.append(label, status);
  const cells = { place, label, status };
  li.append(rank, name);
  for (const key of ["hr", "speed", "distance", "points"]) {
    cells[key] = element("span", `n ${key}`);
    li.append(cells[key]);
  }
  return { li, cells, rank: null };
}

// How many rows fit on a screen that nobody scrolls; elsewhere all.
function roomFor(athletes) {
  const first = $("athletes").firstElementChild;
  if (!hall.matches || !first) return athletes.length;
  const left = innerHeight - $("athletes").getBoundingClientRect().top - scrollY - 100;
  return Math.max(2 * Math.floor(left / first.offsetHeight), 2);
}

function fill(cells, a, together) {
  put(cells.label, a.name || a.subject);
  put(cells.status, a.status && a.status !== "live" ? a.status : "");
  put(cells.hr, number(a.hr_bpm));
  put(cells.speed, a.speed_mps === null || a.speed_mps === undefined ? "–" : (a.speed_mps * 3.6).toFixed(1));
  if (!together) return;
  put(cells.place, a.rank ? String(a.rank) : "–");
  put(cells.distance, metres(a.distance_m));
  put(cells.points, number(a.points, 1));
}

function drawRanking(all) {
  const list = $("athletes");
  const moving = performance.now() - ranked > RANK_EVERY_MS || rows.size === 0;
  if (moving) ranked = performance.now();
  $("ranking").className = all.length > LONG_LIST ? "long" : all.length <= FEW ? "few" : "";
  const room = roomFor(all);
  const athletes = all.length > room ? all.slice(0, room) : all;
  put($("unseen"), `and ${all.length - athletes.length} more`);
  $("unseen").hidden = athletes.length === all.length;
  const steps = Math.max(1, Math.floor(all.length / 50)); // in a crowd a place or two is noise
  const before = new Map();
  if (moving && !calm.matches) for (const [subject, row] of rows) before.set(subject, row.li.getBoundingClientRect());
  const seen = new Set();
  let previous = null;
  for (const a of athletes) {
    seen.add(a.subject);
    let row = rows.get(a.subject);
    if (!row && !moving) continue;
    if (!row) rows.set(a.subject, (row = makeRow(a)));
    fill(row.cells, a, moving);
    if (!moving) continue;
    if (row.rank !== null && a.rank && a.rank <= row.rank - steps) {
      row.li.classList.add("rose");
      setTimeout(() => row.li.classList.remove("rose"), 700);
    }
    row.rank = a.rank;
    const next = previous ? previous.nextSibling : list.firstChild;
    if (next !== row.li) list.insertBefore(row.li, next);
    previous = row.li;
  }
  if (moving) {
    for (const [subject, row] of rows) {
      if (seen.has(subject)) continue;
      row.li.remove();
      rows.delete(subject);
    }
  }
  $("nobody").hidden = all.length > 0;
  for (const [subject, was] of before) glide(rows.get(subject)?.li, was);
}

// From where it was to where it is, within a column and where somebody can see it.
function glide(li, was) {
  if (!li) return;
  const now = li.getBoundingClientRect();
  if (was.top === now.top || was.left !== now.left || now.bottom < 0 || now.top > innerHeight) return;
  li.animate([{ transform: `translateY(${was.top - now.top}px)` }, { transform: "none" }], { duration: 450, easing: "ease-out" });
}

// A node reports what it sent a little later than the stores know of it: what is stored was sent.
const sentOf = (device) => Math.max(device.sent, device.stored + device.refused);

function drawFigures(s) {
  const sent = s.devices.reduce((sum, d) => sum + sentOf(d), 0);
  const list = [
    ["frames sent", grouped(sent), ""],
    ["frames stored", grouped(s.frames_stored), ""],
    ["samples", grouped(s.samples), ""],
    ["dead letters", grouped(s.dead_letters), s.dead_letters ? "bad" : "good"],
    ["board changes", grouped(s.board_changes), ""],
    ["latency p50 / p99", `${number(s.latency_ms.p50)} / ${number(s.latency_ms.p99)} ms`, ""],
  ];
  const holder = $("figures");
  while (holder.children.length < list.length) {
    const item = element("div");
    item.append(element("dt"), element("dd"));
    holder.append(item);
  }
  list.forEach(([label, value, className], i) => {
    const [dt, dd] = holder.children[i].children;
    put(dt, label);
    put(dd, value);
    dd.className = className;
  });
  const equal = s.devices.filter((d) => sentOf(d) === d.stored + d.refused).length;
  put($("devices-summary"), s.devices.length ? `sent = stored on ${equal} of ${s.devices.length} devices` : "no device has reported yet");
  $("nodes").replaceChildren(
    ...s.nodes.map((n) => {
      const item = element("li", "", `${n.node}: `);
      item.append(element("span", n.online ? "ok" : "owed", n.online ? "online" : "offline"));
      const left = n.hours_left === null || n.hours_left === undefined ? "" : `, room for ${n.hours_left >= 48 ? `${grouped(n.hours_left / 24)} days` : `${number(n.hours_left, 1)} h`}`;
      item.append(`, ${grouped(n.spool_rows)} waiting${left}`);
      return item;
    }),
  );
  if ($("more").open) drawDevices(s.devices);
}

function drawDevices(devices) {
  const body = $("devices");
  while (body.rows.length > devices.length) body.deleteRow(-1);
  devices.forEach((d, i) => {
    let row = body.rows[i];
    if (!row) {
      row = body.insertRow();
      for (let k = 0; k < 4; k++) row.insertCell();
    }
    const owed = sentOf(d) - d.stored - d.refused;
    put(row.cells[0], d.device);
    put(row.cells[1], grouped(sentOf(d)));
    put(row.cells[2], grouped(d.stored));
    put(row.cells[3], d.refused ? `${d.refused} refused` : owed ? `${owed} on the way` : "=");
    row.cells[3].className = owed || d.refused ? "owed" : "ok";
  });
}

function aim(athletes) {
  const seen = new Set();
  const placed = athletes.filter((a) => a.lat !== null && a.lat !== undefined && a.lon !== null && a.lon !== undefined);
  $("course").hidden = placed.length === 0 && view === null;
  put($("placed"), placed.length < athletes.length ? `${placed.length} of ${athletes.length} send a position` : "");
  for (const a of placed) {
    seen.add(a.subject);
    const y = a.lat * 111195;
    const x = a.lon * 111195 * Math.cos(((view ? view.lat : a.lat) * Math.PI) / 180);
    if (!view) view = { lat: a.lat, x0: x - 30, x1: x + 30, y0: y - 30, y1: y + 30 };
    if (Math.abs(x - (view.x0 + view.x1) / 2) < 100000 && Math.abs(y - (view.y0 + view.y1) / 2) < 100000) {
      view.x0 = Math.min(view.x0, x); view.x1 = Math.max(view.x1, x);
      view.y0 = Math.min(view.y0, y); view.y1 = Math.max(view.y1, y);
    }
    let dot = dots.get(a.subject);
    if (!dot) dots.set(a.subject, (dot = { x, y, trail: [], hue: hueOf(a.subject) }));
    dot.tx = x; dot.ty = y; dot.rank = rows.get(a.subject)?.rank ?? a.rank; dot.name = a.name || a.subject; dot.live = a.status === "live";
  }
  for (const subject of dots.keys()) if (!seen.has(subject)) dots.delete(subject);
}

function drawMap() {
  requestAnimationFrame(drawMap);
  const canvas = $("map");
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width || !view) return;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const g = canvas.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, width, height);
  const scale = Math.min((width - 60) / (view.x1 - view.x0), (height - 40) / (view.y1 - view.y0));
  const px = (x) => width / 2 + (x - (view.x0 + view.x1) / 2) * scale;
  const py = (y) => height / 2 - (y - (view.y0 + view.y1) / 2) * scale;
  const ordered = [...dots.values()].sort((a, b) => (b.rank || 1e9) - (a.rank || 1e9));
  const leaders = ordered.slice(-3).reverse();
  for (const dot of ordered) {
    dot.x += (dot.tx - dot.x) * (calm.matches ? 1 : 0.12);
    dot.y += (dot.ty - dot.y) * (calm.matches ? 1 : 0.12);
    const last = dot.trail.at(-1);
    if (!last || Math.hypot(last[0] - dot.x, last[1] - dot.y) * scale > 3) dot.trail.push([dot.x, dot.y]);
    if (dot.trail.length > 40) dot.trail.shift();
    g.strokeStyle = `hsl(${dot.hue} 75% 55% / 0.35)`;
    g.lineWidth = 2;
    g.beginPath();
    dot.trail.forEach(([x, y], i) => (i ? g.lineTo(px(x), py(y)) : g.moveTo(px(x), py(y))));
    g.stroke();
    g.fillStyle = `hsl(${dot.hue} 75% 55% / ${dot.live ? 1 : 0.4})`;
    g.beginPath();
    g.arc(px(dot.x), py(dot.y), leaders.includes(dot) ? 7 : 5, 0, 7);
    g.fill();
  }
  const colours = getComputedStyle(document.documentElement);
  g.fillStyle = colours.getPropertyValue("--text");
  g.strokeStyle = colours.getPropertyValue("--panel");
  g.lineWidth = 4;
  g.lineJoin = "round";
  g.font = `600 ${hall.matches ? 16 : 12}px system-ui, sans-serif`;
  const taken = [];
  for (const dot of leaders) {
    const text = `${dot.rank} ${dot.name}`;
    const wide = g.measureText(text).width;
    const x = px(dot.x) + 11 + wide > width ? px(dot.x) - 11 - wide : px(dot.x) + 11;
    let y = py(dot.y) + 4;
    while (taken.some((t) => Math.abs(t[1] - y) < 17 && x < t[0] + t[2] && t[0] < x + wide)) y += 17;
    taken.push([x, y, wide]);
    g.strokeText(text, x, y);
    g.fillText(text, x, y);
  }
}

function show(s) {
  latest = s;
  put($("tenant"), s.tenant);
  drawRanking(s.athletes);
  drawFigures(s);
  aim(s.athletes);
}

function link(state, text) {
  $("link").className = state;
  put($("link"), text);
}

const source = new EventSource(withToken("api/live/stream"));
source.onopen = () => link("live", "live");
source.onmessage = (event) => show(JSON.parse(event.data));
source.onerror = () => link("lost", source.readyState === EventSource.CLOSED ? "stopped: reload with the token" : "reconnecting");
$("more").addEventListener("toggle", () => latest && drawDevices(latest.devices));
requestAnimationFrame(drawMap);
