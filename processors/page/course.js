// The course: segments and tracks as lines, athletes as moving dots, and beside it who is where.

import { get } from "./api.js";
import { CourseMap } from "./course_map.js";
import { Keyed, el, mark, put, text } from "./dom.js";
import { distance, duration, gap, kmh } from "./format.js";
import { label } from "./people.js";

const LINES_EVERY_MS = 60000;
const LIST_EVERY_MS = 900;
const LAST_TRACKS = 8; // of finished activities, drawn thin

export const name = "course";
export const title = "Course";

async function segmentLines() {
  const { segments } = await get("segments");
  const whole = await Promise.all(segments.slice(0, 60).map((s) => get(`segments/${encodeURIComponent(s.id)}`)));
  return whole.map((s) => ({ kind: "segment", id: s.id, name: s.name, points: s.points }));
}

async function trackLines() {
  const { activities } = await get("activities", { limit: LAST_TRACKS });
  const tracks = await Promise.all(activities.map((a) => get(`activities/${a.id}/track`, { points: 400 })));
  return tracks
    .map((t) => ({ kind: "track", name: "", points: t.lat.map((lat, i) => [lat, t.lon[i]]).filter(([lat, lon]) => lat !== null && lon !== null) }))
    .filter((line) => line.points.length > 1);
}

function makeLine() {
  const t = { name: text(), what: text(), extra: text() };
  const chip = el("span", { class: "dot", "aria-hidden": "true" });
  return { node: el("li", {}, chip, el("span", { class: "called" }, t.name), el("span", { class: "soft" }, t.what), el("span", { class: "extra" }, t.extra)), t, chip };
}

function fillLine({ t, chip, node }, { a, attempt }) {
  put(t.name, label(a));
  mark(chip, "data-zone", a.zone || 0);
  mark(node, "data-on", Boolean(attempt));
  put(t.what, a.lat === null ? "no position" : `${kmh(a.speed_mps)} km/h · ${distance(a.distance_m)}`);
  const behind = attempt && attempt.gap_leader_ms !== null ? ` · ${gap(attempt.gap_leader_ms)}` : "";
  put(t.extra, attempt ? `${attempt.segment_name} ${duration(attempt.elapsed_ms)}${behind}` : "");
}

export function open(main) {
  const [base, top] = [el("canvas", { "aria-hidden": "true" }), el("canvas", { role: "img", "aria-label": "Map of the course; the list beside it says who is where" })];
  const focus = el("select", { id: "focus" }, el("option", { value: "" }, "Everything"));
  const said = text();
  const note = el("p", { class: "soft note" }, said);
  const list = el("ul", { class: "lines where" });
  const heads = el("div", { class: "top" }, el("h1", {}, "Course"), el("label", { class: "pick", for: "focus" }, "Show ", focus));
  main.append(heads, el("div", { class: "course" }, el("div", { class: "panel map" }, base, top, note), el("section", { class: "panel side", "aria-label": "Who is where" }, el("h2", {}, "On the course"), list)));
  const map = new CourseMap(base, top);
  const lines = new Keyed(list, ({ a }) => a.subject, makeLine, fillLine);
  let open = true;
  let [timer, listedAt] = [0, -Infinity];
  async function load() {
    try {
      const [segments, tracks] = await Promise.all([segmentLines(), trackLines()]);
      if (!open) return;
      map.setLines([...tracks, ...segments]);
      const chosen = focus.value;
      focus.replaceChildren(el("option", { value: "" }, "Everything"), ...segments.map((s) => el("option", { value: s.name }, s.name)));
      focus.value = segments.some((s) => s.name === chosen) ? chosen : "";
    } catch {
      timer = setTimeout(load, 3000); // the banner says that the server is away
      return;
    }
    timer = setTimeout(load, LINES_EVERY_MS);
  }
  focus.addEventListener("change", () => map.setFocus(focus.value || null));
  load();
  return {
    update({ state }) {
      if (!state) return;
      const placed = state.athletes.filter((a) => a.lat !== null && a.lon !== null);
      map.setDots(placed.map((a) => ({ subject: a.subject, lat: a.lat, lon: a.lon, name: label(a), zone: a.zone, rank: a.rank, live: a.status === "live" })));
      put(said, placed.length ? "" : state.athletes.length ? "Nobody sends a position." : "Nobody is sending yet.");
      if (performance.now() - listedAt < LIST_EVERY_MS) return;
      listedAt = performance.now();
      const on = new Map(state.attempts.map((attempt) => [attempt.subject, attempt]));
      lines.show(state.athletes.map((a) => ({ a, attempt: on.get(a.subject) })));
    },
    close() {
      open = false;
      clearTimeout(timer);
      map.close();
    },
  };
}

