// One finished activity: its line, elevation, heart rate, laps, efforts on segments, time in zones. A cursor runs through all of it.

import { SPORTS, speedOf } from "./activities.js";
import { get } from "./api.js";
import { Chart } from "./chart.js";
import { el, put, svg, text } from "./dom.js";
import { distance, duration, grouped, kmh, number, ordinal, pace, when } from "./format.js";
import { label } from "./people.js";
import { link } from "./router.js";

export const name = "activity";
export const title = "Activity";

const POINTS = 1200;
const PHASES = { provisional: "not final", settled: "not final", final: "" };

function figure(caption, value) {
  return el("div", {}, el("dt", {}, caption), el("dd", {}, value));
}

function figures(a) {
  const list = [
    ["Distance", distance(a.distance_m)],
    ["Moving", duration(a.moving_ms)],
    ["Elapsed", duration(a.elapsed_ms)],
    [a.sport === "run" ? "Pace" : "Speed", speedOf(a)],
    ["Gain", `${grouped(a.gain_m)} m`],
    ["bpm avg / max", a.hr_avg_bpm === null ? "–" : `${a.hr_avg_bpm} / ${a.hr_max_bpm}`],
    ["Points", number(a.points, 1)],
  ];
  if (a.trimp !== null) list.push(["TRIMP", number(a.trimp, 0)]);
  if (a.rmssd_ms !== null) list.push(["RMSSD", `${a.rmssd_ms} ms`]);
  if (a.power_avg_w !== null) {
    const normalised = a.normalised_power_w === null ? "" : ` / ${a.normalised_power_w}`;
    list.splice(6, 0, [normalised ? "W avg / normalised" : "Power", `${a.power_avg_w}${normalised}${normalised ? "" : " W"}`]);
    if (a.work_j !== null) list.splice(7, 0, ["Work", `${grouped(a.work_j / 1000)} kJ`]);
  }
  return el("dl", { class: "figures" }, ...list.map(([caption, value]) => figure(caption, value)));
}

function zones(a) {
  const whole = a.zones_ms.reduce((sum, ms) => sum + ms, 0);
  if (!whole) return null;
  const bar = el("div", { class: "zonebar", "aria-hidden": "true" });
  const list = el("ul", { class: "zonelist" });
  a.zones_ms.forEach((ms, i) => {
    const share = (100 * ms) / whole;
    const part = el("span", { "data-zone": i + 1 }, share >= 9 ? `Z${i + 1}` : "");
    part.style.flexGrow = String(ms);
    if (ms) bar.append(part);
    list.append(el("li", {}, el("span", { class: "chip", "data-zone": i + 1 }, `Z${i + 1}`), ` ${duration(ms)} `, el("span", { class: "soft" }, `${share.toFixed(0)} %`)));
  });
  return el("section", { class: "panel" }, el("h2", {}, "Heart-rate zones"), bar, list);
}

function table(caption, heads, rows) {
  const head = el("tr", {}, ...heads.map(([said, of]) => el("th", { scope: "col", class: of }, said)));
  return el("section", { class: "panel table" }, el("h2", {}, caption), el("table", {}, el("caption", { class: "quietly" }, caption), el("thead", {}, head), el("tbody", {}, ...rows)));
}

const CHANNELS = { heart_rate: "Heart rate", motion: "Motion", power: "Power", cadence: "Cadence" };

function counted(a) {
  if (!a.counted.length) return null;
  const rows = a.counted.map((c) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, CHANNELS[c.channel]),
      el("td", {}, c.source),
      el("td", { class: "n" }, duration((c.from_us - a.start_us) / 1000)),
      el("td", { class: "n" }, duration((c.to_us - a.start_us) / 1000)),
    ),
  );
  return table("Whose samples counted", [["Channel", ""], ["Source", ""], ["From", "n"], ["To", "n"]], rows);
}

function laps(a) {
  if (!a.laps.length) return null;
  const mps = (lap) => (lap.elapsed_ms ? lap.distance_m / (lap.elapsed_ms / 1000) : null);
  const rows = a.laps.map((lap, i) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, String(i + 1)),
      el("td", { class: "n" }, distance(lap.distance_m)),
      el("td", { class: "n strong" }, duration(lap.elapsed_ms, true)),
      el("td", { class: "n" }, a.sport === "run" ? pace(mps(lap)) : `${kmh(mps(lap))} km/h`),
      el("td", { class: "n" }, number(lap.hr_avg_bpm)),
      el("td", { class: "n wide" }, number(lap.power_avg_w)),
    ),
  );
  return table("Laps", [["#"], ["Distance", "n"], ["Time", "n"], [a.sport === "run" ? "Pace" : "Speed", "n"], ["bpm", "n"], ["W", "n wide"]], rows);
}

function efforts(a) {
  if (!a.efforts.length) return null;
  const rows = a.efforts.map((e) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, el("a", { href: link("segment", e.segment) }, e.segment_name), el("small", { class: "state" }, e.kept_off ? `not on the board: ${e.why.join(", ")}` : PHASES[e.phase])),
      el("td", { class: "n strong" }, duration(e.elapsed_ms, true)),
      el("td", { class: "n" }, e.rank ? ordinal(e.rank) : e.best ? "own best" : ""),
      el("td", { class: "n" }, number(e.hr_avg_bpm)),
    ),
  );
  return table("Segments", [["Segment"], ["Time", "n"], ["Place", "n"], ["bpm", "n"]], rows);
}

// The line in a square that keeps its shape: longitude shrunk by the latitude.
class Line {
  constructor(track) {
    const known = track.lat.map((lat, i) => [lat, track.lon[i]]).filter(([lat]) => lat !== null);
    const across = Math.cos((known[0][0] * Math.PI) / 180);
    const [xs, ys] = [known.map((p) => p[1] * across), known.map((p) => -p[0])];
    const [x0, y0] = [Math.min(...xs), Math.min(...ys)];
    const size = Math.max(Math.max(...xs) - x0, Math.max(...ys) - y0, 1e-6);
    const [dx, dy] = [(size - (Math.max(...xs) - x0)) / 2, (size - (Math.max(...ys) - y0)) / 2];
    this.at = (lat, lon) => [20 + ((lon * across - x0 + dx) / size) * 360, 20 + ((-lat - y0 + dy) / size) * 360];
    const path = known.map(([lat, lon]) => this.at(lat, lon).map((v) => v.toFixed(1)).join(","));
    const [[sx, sy], [ex, ey]] = [this.at(...known[0]), this.at(...known.at(-1))];
    this.point = svg("circle", { class: "point", r: 7, cx: -20, cy: -20 });
    this.node = svg(
      "svg",
      { class: "track", viewBox: "0 0 400 400", role: "img", "aria-label": "The line of this activity; a ring where it started, a square where it ended" },
      svg("path", { class: "casing", d: `M${path.join("L")}` }),
      svg("path", { class: "line", d: `M${path.join("L")}` }),
      svg("rect", { class: "end", x: ex - 6, y: ey - 6, width: 12, height: 12 }),
      svg("circle", { class: "start", cx: sx, cy: sy, r: 7 }),
      this.point,
    );
  }

  show(lat, lon) {
    const [x, y] = lat === null ? [-20, -20] : this.at(lat, lon);
    this.point.setAttribute("cx", x);
    this.point.setAttribute("cy", y);
  }
}

function graphs(track) {
  const far = track.distance_m.some((d) => d > 0);
  const known = track.t_ms.map((_, i) => i).filter((i) => !far || track.distance_m[i] !== null);
  if (known.length < 2) return null;
  const pick = (column) => known.map((i) => column[i]);
  const xs = far ? pick(track.distance_m).map((d) => d / 1000) : pick(track.t_ms).map((t) => t / 60000);
  const axis = (x) => (far ? `${x} km` : `${x} min`);
  const charts = [];
  const add = (caption, kind, column, unit, floor, digits) => {
    const ys = pick(column);
    if (ys.filter((y) => y !== null).length < 2) return;
    const chart = new Chart({ label: `${caption} over ${far ? "distance" : "time"}`, kind, xs, ys, axis, unit, floor });
    charts.push({ caption, chart, digits, value: text() });
  };
  add("Elevation", "elevation", track.altitude_m, "m", 4, 0);
  add("Heart rate", "heartrate", track.hr_bpm, "bpm", 4, 0);
  add("Power", "power", track.power_w, "W", 10, 0);
  if (!charts.length) return null;
  const line = known.some((i) => track.lat[i] !== null) ? new Line(track) : null;
  const where = text("Move over a graph, or use the arrow keys.");
  const box = el("section", { class: "panel graphs", tabindex: 0, "aria-label": "Graphs; the left and right arrow keys move the cursor" });
  for (const c of charts) box.append(el("h2", {}, c.caption, el("b", {}, c.value)), c.chart.node);
  box.append(el("p", { class: "soft", role: "status" }, where));
  let at = null;
  function show(i) {
    at = i;
    for (const c of charts) {
      c.chart.show(i);
      put(c.value, i === null || c.chart.ys[i] === null ? "" : `${number(c.chart.ys[i], c.digits)} ${c.chart.unit}`);
    }
    if (i !== null) line?.show(track.lat[known[i]], track.lon[known[i]]);
    put(where, i === null ? "Move over a graph, or use the arrow keys." : `${far ? `${distance(xs[i] * 1000)} · ` : ""}${duration(track.t_ms[known[i]])}`);
  }
  for (const c of charts) c.chart.node.addEventListener("pointermove", (event) => show(c.chart.indexAt(event)));
  box.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const step = Math.max(1, Math.round(known.length / 100));
    show(Math.min(Math.max((at ?? 0) + by * step, 0), known.length - 1));
  });
  return { box, line };
}

export function open(main, { id }) {
  const note = el("p", { class: "empty", role: "status" }, "Looking …");
  main.append(note);
  let open = true;
  async function load() {
    let [a, track] = [null, null];
    try {
      const path = `activities/${encodeURIComponent(id)}`;
      [a, track] = await Promise.all([get(path), get(`${path}/track`, { points: POINTS })]);
    } catch (error) {
      note.textContent = error.status === 404 ? "There is no such activity." : error.message;
      return;
    }
    if (!open) return;
    document.title = `${label(a)} · ${SPORTS[a.sport]} · Paceline`;
    const drawn = graphs(track);
    const lined = drawn?.line || (track.lat.some((lat) => lat !== null) ? new Line(track) : null);
    const left = [lined && el("section", { class: "panel line", "aria-label": "Track" }, lined.node), zones(a)];
    const right = [drawn?.box, efforts(a), laps(a), counted(a)];
    const parts = [left, right].map((column) => column.filter(Boolean)).filter((column) => column.length);
    const head = el("div", { class: "top" }, el("div", {}, el("h1", {}, label(a)), el("p", { class: "soft about" }, `${SPORTS[a.sport]} · ${when(a.start_us)}`)), el("a", { class: "button", href: link("activities", "", { athlete: a.athlete }) }, "All activities"));
    main.replaceChildren(head, el("div", { class: "panel" }, figures(a)), el("div", { class: "activity" }, ...parts.map((column) => el("div", { class: "column" }, ...column))), el("p", { class: "soft sources" }, `${grouped(a.samples)} samples from ${a.sources.join(", ") || "–"}`));
  }
  load();
  return {
    close: () => (open = false),
  };
}
