// The pipeline: is everything that was sent also stored, how long can the boxes hold on, and how fast does it arrive.

import { Keyed, el, mark, put, text } from "./dom.js";
import { grouped, hours, number } from "./format.js";

export const name = "health";
export const title = "Health";

// A node reports what it sent a little later than the stores know of it: what is stored was sent.
const sentOf = (d) => Math.max(d.sent, d.stored + d.refused);

function figure(caption) {
  const [value, note] = [text(), text()];
  const dd = el("dd", {}, value);
  return { node: el("div", {}, el("dt", {}, caption), dd, el("dd", { class: "soft sub" }, note)), value, note, dd };
}

function makeDevice() {
  const t = { device: text(), node: text(), sent: text(), stored: text(), refused: text(), missing: text(), verdict: text() };
  const verdict = el("span", { class: "verdict" }, t.verdict);
  const cells = [t.sent, t.stored].map((x) => el("td", { class: "n" }, x));
  const wide = [t.refused, t.missing].map((x) => el("td", { class: "n wide" }, x));
  return { node: el("tr", {}, el("th", { scope: "row" }, t.device, el("small", { class: "state plain" }, t.node)), ...cells, ...wide, el("td", {}, verdict)), t, verdict };
}

function fillDevice({ t, verdict }, d) {
  const owed = sentOf(d) - d.stored - d.refused;
  put(t.device, d.device);
  put(t.node, d.node ? `by ${d.node}` : "");
  put(t.sent, grouped(sentOf(d)));
  put(t.stored, grouped(d.stored));
  put(t.refused, grouped(d.refused));
  put(t.missing, grouped(d.missing));
  put(t.verdict, d.refused ? "refused some" : owed ? `${grouped(owed)} on the way` : d.missing ? `${grouped(d.missing)} missing` : "sent = stored");
  mark(verdict, "data-is", d.refused ? "bad" : owed || d.missing ? "warn" : "good");
}

function makeNode() {
  const t = { name: text(), state: text(), left: text() };
  const state = el("b", { class: "verdict" }, t.state);
  return { node: el("li", {}, el("span", { class: "called" }, t.name), state, el("span", { class: "soft" }, t.left)), t, state };
}

function fillNode({ t, state }, n) {
  put(t.name, n.node);
  put(t.state, n.online ? "online" : "offline");
  mark(state, "data-is", n.online ? "good" : "bad");
  const room = n.hours_left === null ? "" : `, room for ${hours(n.hours_left)} more`;
  put(t.left, `${grouped(n.spool_rows)} frames waiting${room}`);
}

export function open(main) {
  const shown = Object.fromEntries(
    Object.entries({ equal: "Sent = stored", stored: "Frames stored", samples: "Samples", dead: "Dead letters", latency: "Latency p50", buffer: "Least buffer", efforts: "Efforts", board: "Board changes" }).map(([key, caption]) => [key, figure(caption)]),
  );
  const [nodes, devices] = [el("ul", { class: "lines nodes" }), el("tbody")];
  const noNode = el("p", { class: "soft" }, "No box has reported yet.");
  const noDevice = el("p", { class: "soft" });
  const heads = [["Device"], ["Sent", "n"], ["Stored", "n"], ["Refused", "n wide"], ["Missing", "n wide"], ["Verdict"]];
  const table = el("table", {}, el("caption", { class: "quietly" }, "Frames of each device"), el("thead", {}, el("tr", {}, ...heads.map(([head, of]) => el("th", { scope: "col", class: of }, head)))), devices);
  main.append(
    el("div", { class: "top" }, el("h1", {}, "Health")),
    el("div", { class: "panel" }, el("dl", { class: "figures" }, ...Object.values(shown).map((f) => f.node))),
    el("div", { class: "health" }, el("section", { class: "panel table" }, el("h2", {}, "Devices"), table, noDevice), el("section", { class: "panel side" }, el("h2", {}, "Boxes"), nodes, noNode)),
  );
  const deviceRows = new Keyed(devices, (d) => `${d.node}/${d.device}`, makeDevice, fillDevice);
  const nodeRows = new Keyed(nodes, (n) => n.node, makeNode, fillNode);
  function set(key, value, note, verdict) {
    put(shown[key].value, value);
    put(shown[key].note, note || "");
    mark(shown[key].dd, "data-is", verdict);
  }
  return {
    update({ state: s }) {
      if (!s) return;
      const equal = s.devices_equal === s.devices_total;
      set("equal", s.devices_total ? `${s.devices_equal} of ${s.devices_total}` : "–", "devices", s.devices_total ? (equal ? "good" : "warn") : null);
      set("stored", grouped(s.frames_stored), `of ${grouped(Math.max(s.frames_sent, s.frames_stored))} sent`);
      set("samples", grouped(s.samples), `${grouped(s.activities)} activities`);
      set("dead", grouped(s.dead_letters), s.dead_letters ? "see: paceline dead list" : "nothing was refused", s.dead_letters ? "bad" : "good");
      set("latency", `${number(s.latency_ms.p50)} ms`, `p95 ${number(s.latency_ms.p95)} · p99 ${number(s.latency_ms.p99)} ms`);
      const left = s.nodes.map((n) => n.hours_left).filter((h) => h !== null);
      const online = s.nodes.filter((n) => n.online).length;
      set("buffer", left.length ? hours(Math.min(...left)) : "–", `${online} of ${s.nodes.length} boxes online`, online < s.nodes.length ? "bad" : null);
      set("efforts", grouped(s.efforts), "on segments");
      set("board", grouped(s.board_changes), `${grouped(s.events)} events`);
      deviceRows.show(s.devices);
      nodeRows.show(s.nodes);
      noNode.hidden = s.nodes.length > 0;
      noDevice.hidden = s.devices.length > 0;
      noDevice.textContent = s.role === "screen" && s.devices_total ? "A screen sees the sums only." : "No device has reported yet.";
    },
  };
}
