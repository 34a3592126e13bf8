// The wall: a tile per athlete, coloured by heart-rate zone. Zone also as number and bars, so that colour is never needed to read it.

import { openBinding, openDevices } from "./bind.js";
import { Keyed, el, mark, put, text } from "./dom.js";
import { distance, kmh, number } from "./format.js";
import { label } from "./people.js";

const QUIET_MS = 20000; // without anything new from an athlete for this long, the tile says so
const GAP_PX = 10;
const LEAST = { width: 150, height: 104 };
const WIDTH_PER_HEIGHT = 1.55;

export const name = "wall";
export const title = "Wall";

// The number of columns that makes the tiles largest without scrolling; 0 when they would get too small to read.
export function columnsFor(count, width, height) {
  let [best, size] = [0, 0];
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const w = (width - GAP_PX * (columns - 1)) / columns;
    const h = (height - GAP_PX * (rows - 1)) / rows;
    if (w < LEAST.width || h < LEAST.height) continue;
    const readable = Math.min(w / WIDTH_PER_HEIGHT, h);
    if (readable > size) [best, size] = [columns, readable];
  }
  return best;
}

function makeTile(athlete, mayName) {
  const t = { name: text(), hr: text(), zone: text(), first: text(), second: text(), state: text() };
  const unknown = athlete.unknown;
  const bars = el("span", { class: "bars", "aria-hidden": "true" }, ...[1, 2, 3, 4, 5].map(() => el("i")));
  const heart = el("span", { class: "heart" }, el("b", {}, t.hr), el("small", {}, " bpm"));
  const zone = el("span", { class: "zone" }, bars, el("span", {}, t.zone));
  const foot = unknown
    ? el("span", { class: "foot ask" }, mayName ? "Who is this?" : "not named")
    : el("span", { class: "foot" }, el("span", {}, t.first), el("span", {}, t.second));
  const button = el("button", { type: "button", class: "tile" }, el("span", { class: "who" }, el("span", { class: "called" }, t.name), el("span", { class: "state" }, t.state)), heart, zone, foot);
  const part = { node: el("li", {}, button), button, t, unknown, athlete, changed: performance.now(), stamp: null };
  if (unknown) button.classList.add("unknown");
  if (mayName) button.addEventListener("click", () => (unknown ? openBinding(part.athlete, button) : openDevices(part.athlete, button)));
  else mark(button, "tabindex", -1);
  return part;
}

function fillTile(part, a) {
  const now = performance.now();
  if (part.stamp !== a.t_us) [part.stamp, part.changed] = [a.t_us, now];
  part.athlete = a;
  const quiet = now - part.changed > QUIET_MS;
  const zone = part.unknown ? null : a.zone;
  put(part.t.name, label(a));
  put(part.t.hr, number(a.hr_bpm));
  put(part.t.zone, zone ? `Zone ${zone}` : a.hr_bpm ? "" : "no heart rate");
  put(part.t.state, quiet ? "no signal" : a.status === "paused" ? "paused" : a.show === "no" && a.name ? "private" : ""); // private: screens do not name him or her
  mark(part.button, "data-zone", zone);
  mark(part.button, "data-quiet", quiet);
  if (part.unknown) return;
  put(part.t.first, a.speed_mps === null ? (a.power_w === null ? "" : `${a.power_w} W`) : `${kmh(a.speed_mps)} km/h`);
  put(part.t.second, distance(a.distance_m));
}

// Tiles keep their places: by name, unknown devices last.
function inOrder(athletes) {
  const keyed = athletes.map((a) => [a.unknown ? "\uffff" : "", label(a).toLowerCase(), a]);
  keyed.sort((x, y) => (x[0] + x[1] < y[0] + y[1] ? -1 : 1));
  return keyed.map((entry) => entry[2]);
}

export function open(main) {
  const list = el("ul", { class: "wall" });
  const nobody = el("div", { class: "empty" }, el("p", {}, "Nobody is sending yet."), el("p", { class: "soft" }, "Switch a sensor on near the box: it appears here by itself."));
  main.append(el("h1", { class: "quietly" }, "Wall"), list, nobody);
  const tiles = new Keyed(list, (a) => a.subject, (a) => makeTile(a, staff), fillTile);
  let [count, staff] = [-1, false];
  function arrange() {
    const columns = count > 0 && matchMedia("(min-width: 760px)").matches ? columnsFor(count, list.clientWidth, innerHeight - list.getBoundingClientRect().top - scrollY - 14) : 0;
    mark(list, "data-fit", columns > 0);
    list.style.gridTemplateColumns = columns ? `repeat(${columns}, minmax(0, 1fr))` : "";
  }
  addEventListener("resize", arrange);
  return {
    update({ state }) {
      if (!state) return;
      staff = state.role === "staff";
      tiles.show(inOrder(state.athletes));
      nobody.hidden = state.athletes.length > 0;
      if (state.athletes.length === count) return;
      count = state.athletes.length;
      arrange();
    },
    close: () => removeEventListener("resize", arrange),
  };
}
