// The ranking of the class in progress: who is in front by distance or by points.

import { announce } from "./announce.js";
import { el, mark, put, text } from "./dom.js";
import { distance, kmh, number, ordinal } from "./format.js";
import { label } from "./people.js";
import { Ranked, arrows } from "./ranked.js";
import { link } from "./router.js";

const PLACES_EVERY_MS = 1500;
const VALUES_EVERY_MS = 700;

export const name = "ranking";
export const title = "Ranking";

function makeRow(by) {
  const t = { rank: text(), name: text(), state: text(), hr: text(), zone: text(), speed: text(), distance: text(), points: text() };
  const zone = el("span", { class: "chip" }, t.zone);
  const node = el(
    "tr",
    {},
    el("td", { class: "rank" }, t.rank, arrows()),
    el("th", { scope: "row" }, t.name, el("small", { class: "state" }, t.state)),
    el("td", { class: "n" }, t.hr),
    el("td", { class: "wide" }, zone),
    el("td", { class: "n wide" }, t.speed),
    el("td", { class: by === "points" ? "n wide" : "n strong" }, t.distance),
    el("td", { class: by === "points" ? "n strong" : "n wide" }, t.points),
  );
  return { node, t, zone };
}

function fillRow({ t, zone }, a) {
  put(t.rank, number(a.place));
  put(t.name, label(a));
  put(t.state, a.unknown ? "not named" : a.status === "paused" ? "paused" : "");
  put(t.hr, number(a.hr_bpm));
  put(t.zone, a.zone ? `Z${a.zone}` : "–");
  mark(zone, "data-zone", a.zone || null);
  put(t.speed, kmh(a.speed_mps));
  put(t.distance, distance(a.distance_m));
  put(t.points, number(a.points, 1));
}

function placed(athletes, by) {
  const value = (a) => (by === "points" ? a.points : a.distance_m) ?? 0;
  const sorted = [...athletes].sort((x, y) => value(y) - value(x) || (x.subject < y.subject ? -1 : 1));
  let before = null;
  return sorted.map((a, i) => (before = { ...a, place: before && value(before) === value(a) ? before.place : i + 1 }));
}

export function open(main, { query }) {
  const by = query.get("by") === "points" ? "points" : "distance";
  const table = new Ranked(
    `Ranking by ${by}`,
    [
      { head: "#", class: "rank" },
      { head: "Athlete" },
      { head: "bpm", class: "n" },
      { head: "Zone", class: "wide" },
      { head: "km/h", class: "n wide" },
      { head: "Distance", class: by === "points" ? "n wide" : "n" },
      { head: "Points", class: by === "points" ? "n" : "n wide" },
    ],
    { keyOf: (a) => a.subject, rankOf: (a) => a.place, make: () => makeRow(by), fill: fillRow },
  );
  const tabs = el(
    "nav",
    { class: "tabs", "aria-label": "Ranked by" },
    el("a", { href: link("ranking"), "aria-current": by === "distance" && "true" }, "Distance"),
    el("a", { href: link("ranking", "", { by: "points" }), "aria-current": by === "points" && "true" }, "Points"),
  );
  const nobody = el("p", { class: "empty" }, "Nobody is sending yet.");
  main.append(el("div", { class: "top" }, el("h1", {}, "Ranking"), tabs), el("div", { class: "panel table firm" }, table.node), nobody);
  let [shownAt, filledAt] = [-Infinity, -Infinity];
  return {
    update({ state }) {
      if (!state) return;
      const now = performance.now();
      if (now - filledAt < VALUES_EVERY_MS) return;
      filledAt = now;
      const items = placed(state.athletes, by);
      nobody.hidden = items.length > 0;
      if (now - shownAt < PLACES_EVERY_MS) {
        const places = new Map([...table.parts].map(([key, part]) => [key, part.rank]));
        table.refill(items.map((a) => ({ ...a, place: places.get(a.subject) })));
        return;
      }
      shownAt = now;
      const best = table.show(items).sort((x, y) => x.to - y.to)[0];
      if (best && best.to <= 10) announce(`${label(best.item)} is now ${ordinal(best.to)}`);
    },
  };
}
