// All segments: how long, how often, who leads. A click opens the board.

import { Repeated, every } from "./api.js";
import { Keyed, el, put, text } from "./dom.js";
import { distance, duration, grouped } from "./format.js";
import { link } from "./router.js";

export const name = "segments";
export const title = "Segments";

const SPORT = { any: "", run: "Run", ride: "Ride" };

function makeRow(s) {
  const t = { name: text(), sport: text(), length: text(), efforts: text(), athletes: text(), leader: text(), time: text() };
  const anchor = el("a", { href: link("segment", s.id) }, t.name);
  const node = el(
    "tr",
    {},
    el("th", { scope: "row" }, anchor, el("small", { class: "state" }, t.sport)),
    el("td", { class: "n" }, t.length),
    el("td", { class: "n wide" }, t.efforts),
    el("td", { class: "n wide" }, t.athletes),
    el("td", {}, t.leader),
    el("td", { class: "n strong" }, t.time),
  );
  return { node, t };
}

function fillRow({ t }, s) {
  put(t.name, s.name);
  put(t.sport, SPORT[s.sport] || "");
  put(t.length, distance(s.length_m));
  put(t.efforts, grouped(s.efforts));
  put(t.athletes, grouped(s.athletes));
  put(t.leader, s.leader_ms === null ? "nobody yet" : s.leader_name || "not named");
  put(t.time, duration(s.leader_ms, true));
}

export function open(main) {
  const body = el("tbody");
  const heads = [["Segment"], ["Length", "n"], ["Efforts", "n wide"], ["Athletes", "n wide"], ["Leader"], ["Time", "n"]];
  const table = el("table", {}, el("caption", { class: "quietly" }, "Segments"), el("thead", {}, el("tr", {}, ...heads.map(([head, of]) => el("th", { scope: "col", class: of }, head)))), body);
  const note = el("p", { class: "empty", role: "status" }, "Looking …");
  main.append(el("div", { class: "top" }, el("h1", {}, "Segments")), el("div", { class: "panel table" }, table), note);
  const rows = new Keyed(body, (s) => s.id, makeRow, fillRow);
  const source = new Repeated("segments");
  const stop = every(3000, async () => {
    try {
      const got = await source.read();
      if (!got) return;
      rows.show(got.segments);
      note.textContent = got.segments.length ? "" : "No segment yet. Bring one with: paceline segments import FILE";
    } catch (error) {
      note.textContent = error.message;
    }
    note.hidden = !note.textContent;
  });
  return { close: stop };
}
