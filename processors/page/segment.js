// The board of a segment: ranks that glide, gaps, who is on it right now with the live gap, filters, and an athlete's own history on a click.

import { announce } from "./announce.js";
import { Repeated, every, get } from "./api.js";
import { Keyed, el, mark, put, text } from "./dom.js";
import { day, distance, duration, gap, number, ordinal, when } from "./format.js";
import { label } from "./people.js";
import { Ranked, arrows } from "./ranked.js";
import { link } from "./router.js";

export const name = "segment";
export const title = "Segment";

const BOARD_EVERY_MS = 1500;
const SEXES = [["", "Everybody"], ["f", "Women"], ["m", "Men"], ["x", "Other"]];
const AGES = ["", "U20", "20-24", "25-34", "35-44", "45-54", "55-64", "65-69", "70-74", "75+"];
const WEIGHTS = ["", "U55", "55-64", "65-74", "75-84", "85-94", "95+"];
const PERIODS = [["all", "All time"], ["year", "This year"], ["month", "This month"], ["week", "This week"], ["today", "Today"]];
const AWARDS = { record: "record", top_10: "first ten", own_1: "own best", own_2: "own second", own_3: "own third" };
const PHASES = { provisional: "just now", settled: "", final: "" };

function makeRow(line, pick) {
  const t = { rank: text(), name: text(), phase: text(), time: text(), leader: text(), next: text(), hr: text(), power: text(), day: text() };
  const who = el("button", { type: "button", class: "plain who" }, t.name);
  const node = el(
    "tr",
    {},
    el("td", { class: "rank" }, t.rank, arrows()),
    el("th", { scope: "row" }, who, el("small", { class: "state" }, t.phase)),
    el("td", { class: "n strong" }, t.time),
    el("td", { class: "n" }, t.leader),
    el("td", { class: "n wide" }, t.next),
    el("td", { class: "n wide" }, t.hr),
    el("td", { class: "n wide" }, t.power),
    el("td", { class: "n wide" }, t.day),
  );
  const part = { node, t, line };
  who.addEventListener("click", () => pick(part.line, who));
  return part;
}

function fillRow(part, line) {
  const { t } = part;
  part.line = line;
  put(t.rank, String(line.rank));
  put(t.name, label(line));
  put(t.phase, PHASES[line.phase]);
  put(t.time, duration(line.elapsed_ms, true));
  put(t.leader, line.gap_ms ? gap(line.gap_ms) : "leads");
  put(t.next, line.next_ms ? gap(line.next_ms) : "–");
  put(t.hr, number(line.hr_avg_bpm));
  put(t.power, number(line.power_avg_w));
  put(t.day, day(line.start_us));
}

function makeAttempt() {
  const t = { name: text(), time: text(), leader: text(), own: text(), next: text(), end: text() };
  const bar = el("progress", { max: 1, value: 0, "aria-label": "How far on the segment" });
  const leader = el("b", {}, t.leader);
  const node = el("li", {}, el("span", { class: "called" }, t.name), el("span", { class: "clock" }, t.time), bar, el("span", { class: "gaps" }, el("span", {}, "to the leader ", leader), el("span", {}, t.own), el("span", {}, t.next), el("span", {}, t.end)));
  return { node, t, bar, leader };
}

function fillAttempt({ t, bar, leader }, a) {
  put(t.name, label(a));
  put(t.time, duration(a.elapsed_ms));
  bar.value = a.length_m ? a.metre_m / a.length_m : 0;
  put(t.leader, gap(a.gap_leader_ms));
  mark(leader, "class", a.gap_leader_ms === null ? null : a.gap_leader_ms <= 0 ? "ahead" : "behind");
  put(t.own, a.gap_own_ms === null ? "" : `own best ${gap(a.gap_own_ms)}`);
  put(t.next, a.gap_next_ms === null || !a.next_rank ? "" : `${ordinal(a.next_rank)} ${a.next_name || ""} ${gap(a.gap_next_ms)}`);
  put(t.end, a.projected_ms === null ? "" : `finish in about ${duration(a.projected_ms)}`);
}

function choice(id, caption, options, value, changed) {
  const select = el("select", { id }, ...options.map(([of, said]) => el("option", { value: of, selected: of === value }, said)));
  select.addEventListener("change", () => changed(select.value));
  return el("label", { class: "pick", for: id }, `${caption} `, select);
}

function remark(e) {
  if (!e.kept_off) return e.awards.map((award) => AWARDS[award]).join(", ");
  return { flagged: "flagged", hidden: "hidden" }[e.ruling] || e.why.join(", ");
}

async function history(line, segment, box, from) {
  const note = el("p", { class: "soft" }, "Looking …");
  const body = el("tbody");
  const close = el("button", { type: "button" }, "Close");
  box.replaceChildren(el("h2", { id: "dialog-title" }, label(line)), note, el("table", {}, el("caption", { class: "quietly" }, "Own efforts on this segment"), body), el("div", { class: "buttons" }, close));
  close.addEventListener("click", () => box.close());
  box.onclose = () => from.isConnected && from.focus();
  box.onclick = (event) => {
    if (event.target === box) box.close(); // a handler that returns false would keep buttons from doing what they are for
  };
  box.showModal();
  try {
    const { efforts } = await get(`athletes/${encodeURIComponent(line.athlete)}/efforts`, { segment });
    note.textContent = `${efforts.length} ${efforts.length === 1 ? "effort" : "efforts"}, the fastest first`;
    const best = efforts.find((e) => e.best)?.elapsed_ms;
    body.replaceChildren(
      ...efforts.map((e) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, el("a", { href: link("activity", e.activity), onclick: () => box.close() }, when(e.start_us))),
          el("td", { class: "n strong" }, duration(e.elapsed_ms, true)),
          el("td", { class: "n", title: e.why.join(", ") }, e.kept_off ? "not on the board" : e.elapsed_ms === best ? "best" : gap(e.elapsed_ms - best)),
          el("td", { class: "n" }, e.hr_avg_bpm ? `${e.hr_avg_bpm} bpm` : "–"),
          el("td", { class: "soft" }, remark(e)),
        ),
      ),
    );
  } catch (error) {
    note.textContent = error.message;
  }
}

export function open(main, { id, query }) {
  const chosen = { sex: query.get("sex") || "", age: query.get("age") || "", weight: query.get("weight") || "", club: query.get("club") || "", period: query.get("period") || "all" };
  const go = (change) => {
    const now = { ...chosen, ...change };
    location.hash = link("segment", id, { ...now, period: now.period === "all" ? "" : now.period });
  };
  const head = { name: text("Segment"), about: text() };
  const table = new Ranked(
    "Board",
    [{ head: "#", class: "rank" }, { head: "Athlete" }, { head: "Time", class: "n" }, { head: "To leader", class: "n" }, { head: "To next", class: "n wide" }, { head: "bpm", class: "n wide" }, { head: "W", class: "n wide" }, { head: "Day", class: "n wide" }],
    { keyOf: (line) => line.athlete, rankOf: (line) => line.rank, make: (line) => makeRow(line, (of, from) => history(of, id, document.getElementById("dialog"), from)), fill: fillRow },
  );
  const note = el("p", { class: "empty", role: "status" }, "Looking …");
  const onIt = el("ul", { class: "attempts" });
  const side = el("section", { class: "panel side", "aria-label": "On it now" }, el("h2", {}, "On it now"), onIt, el("p", { class: "soft nobody" }, "Nobody is on this segment."), el("h2", {}, "Latest changes"), el("ol", { class: "moves" }));
  const filters = el(
    "div",
    { class: "filters" },
    choice("sex", "Who", SEXES, chosen.sex, (sex) => go({ sex })),
    choice("age", "Age", AGES.map((age) => [age, age || "any"]), chosen.age, (age) => go({ age })),
    choice("weight", "Weight", WEIGHTS.map((weight) => [weight, weight ? `${weight} kg` : "any"]), chosen.weight, (weight) => go({ weight })),
    choice("period", "When", PERIODS, chosen.period, (period) => go({ period })),
  );
  const more = el("button", { type: "button", class: "more", hidden: true }, "Show more");
  main.append(
    el("div", { class: "top" }, el("div", {}, el("h1", {}, head.name), el("p", { class: "soft about" }, head.about)), filters),
    el("div", { class: "board" }, el("div", { class: "panel table" }, table.node, note, more), side),
  );
  const attempts = new Keyed(onIt, (a) => `${a.subject} ${a.start_us}`, makeAttempt, fillAttempt);
  const moves = new Keyed(side.querySelector(".moves"), (m) => m.seq, makeMove, () => undefined);
  let limit = 50;
  let source = null;
  const sourceOf = () => (source = new Repeated(`segments/${encodeURIComponent(id)}/board`, { ...chosen, limit }));
  more.addEventListener("click", () => {
    limit = Math.min(limit * 2, 200);
    sourceOf();
    read();
  });
  function show(page) {
    put(head.name, page.segment_name);
    document.title = `${page.segment_name} · Paceline`;
    const lines = page.lines.map((line, i) => ({ ...line, next_ms: i ? line.elapsed_ms - page.lines[i - 1].elapsed_ms : 0 }));
    const first = table.parts.size === 0;
    const best = table.show(lines).sort((x, y) => x.to - y.to)[0];
    if (best && !first) announce(`${label(best.item)} is now ${ordinal(best.to)} on ${page.segment_name}`);
    note.textContent = lines.length ? "" : "No effort here yet.";
    more.hidden = !page.next_cursor || limit >= 200;
  }
  async function read() {
    try {
      const page = await source.read();
      if (page) show(page);
    } catch (error) {
      note.textContent = error.status === 404 ? "There is no such segment." : error.message;
    }
    note.hidden = !note.textContent;
  }
  async function clubs() {
    try {
      const { athletes } = await get("athletes");
      const all = [...new Set([chosen.club, ...athletes.flatMap((a) => a.clubs)])].filter(Boolean).sort();
      if (all.length) filters.append(choice("club", "Club", ["", ...all].map((club) => [club, club || "any"]), chosen.club, (club) => go({ club })));
    } catch {
      return; // the board says what is wrong
    }
  }
  async function about() {
    try {
      const s = await get(`segments/${encodeURIComponent(id)}`);
      put(head.name, s.name);
      const legend = s.legend ? ` · most in 90 days: ${label(s.legend)}, ${s.legend.efforts}` : "";
      put(head.about, `${distance(s.length_m)} · ${s.efforts} efforts of ${s.athletes} athletes${legend}`);
    } catch {
      return; // the board says what is wrong
    }
  }
  sourceOf();
  clubs();
  const stops = [every(BOARD_EVERY_MS, read), every(15000, about)];
  return {
    update({ state }) {
      if (!state) return;
      const mine = state.attempts.filter((a) => a.segment === id).sort((x, y) => y.metre_m - x.metre_m);
      attempts.show(mine);
      side.querySelector(".nobody").hidden = mine.length > 0;
      moves.show(state.moves.filter((m) => m.segment === id).slice(0, 6));
    },
    close: () => stops.forEach((stop) => stop()),
  };
}

function makeMove(m) {
  const way = m.rank === null ? "left the board" : m.from_rank === null ? `came in ${ordinal(m.rank)}` : m.rank < m.from_rank ? `rose to ${ordinal(m.rank)}` : `fell to ${ordinal(m.rank)}`;
  return { node: el("li", {}, el("b", {}, label(m)), ` ${way}`, m.elapsed_ms === null ? "" : ` · ${duration(m.elapsed_ms, true)}`) };
}
