// Finished activities, the latest first.

import { get } from "./api.js";
import { el } from "./dom.js";
import { distance, duration, number, pace, when, kmh } from "./format.js";
import { label } from "./people.js";
import { link } from "./router.js";

export const name = "activities";
export const title = "Activities";
export const SPORTS = { run: "Run", ride: "Ride", other: "Workout" };

export const speedOf = (a) => {
  const mps = a.moving_ms ? a.distance_m / (a.moving_ms / 1000) : null;
  return a.sport === "run" ? pace(mps) : mps ? `${kmh(mps)} km/h` : "–";
};

function row(a) {
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, el("a", { href: link("activity", a.id) }, label(a)), el("small", { class: "state plain" }, SPORTS[a.sport], el("span", { class: "narrow" }, ` · ${when(a.start_us)}`))),
    el("td", { class: "wide" }, when(a.start_us)),
    el("td", { class: "n strong" }, distance(a.distance_m)),
    el("td", { class: "n" }, duration(a.moving_ms)),
    el("td", { class: "n wide" }, speedOf(a)),
    el("td", { class: "n wide" }, `${number(a.gain_m)} m`),
    el("td", { class: "n wide" }, number(a.hr_avg_bpm)),
  );
}

export function open(main, { query }) {
  const athlete = query.get("athlete") || "";
  const body = el("tbody");
  const heads = [["Athlete"], ["Start", "wide"], ["Distance", "n"], ["Moving", "n"], ["Speed", "n wide"], ["Gain", "n wide"], ["bpm", "n wide"]];
  const table = el("table", {}, el("caption", { class: "quietly" }, "Activities"), el("thead", {}, el("tr", {}, ...heads.map(([head, of]) => el("th", { scope: "col", class: of }, head)))), body);
  const note = el("p", { class: "empty", role: "status" }, "Looking …");
  const more = el("button", { type: "button", class: "more", hidden: true }, "Show older");
  main.append(el("div", { class: "top" }, el("h1", {}, "Activities")), el("div", { class: "panel table" }, table, more), note);
  let before = null;
  async function load() {
    more.disabled = true;
    try {
      const page = await get("activities", { athlete, before, limit: 50 });
      body.append(...page.activities.map(row));
      before = page.next_before_us;
      more.hidden = before === null;
      note.textContent = body.rows.length ? "" : "No finished activity yet. One ends ten minutes after its last sample.";
    } catch (error) {
      note.textContent = error.message;
    }
    more.disabled = false;
    note.hidden = !note.textContent;
  }
  more.addEventListener("click", load);
  load();
  return {};
}
