// The live page: one event stream in, the view of the address drawn. Plain modules: no build step, no framework, no other host.

import * as activities from "./activities.js";
import * as activity from "./activity.js";
import { get, screenAddress, streamAddress } from "./api.js";
import * as course from "./course.js";
import { mark, put } from "./dom.js";
import * as health from "./health.js";
import * as ranking from "./ranking.js";
import { Router } from "./router.js";
import * as segment from "./segment.js";
import * as segments from "./segments.js";
import { Live } from "./store.js";
import { startTheme } from "./theme.js";
import * as wall from "./wall.js";

const STALE_S = 3;
const $ = (id) => document.getElementById(id);
const textOf = (id) => $(id).firstChild || $(id).appendChild(document.createTextNode(""));
const parent = { segment: "segments", activity: "activities" };

function shown(view) {
  document.title = `${view.title} · Paceline`;
  for (const anchor of document.querySelectorAll("#views a")) {
    const own = anchor.getAttribute("href") === `#/${view === wall ? "" : parent[view.name] || view.name}`;
    mark(anchor, "aria-current", own ? "page" : null);
  }
}

// An event stream does not say why it was refused; an ordinary request does.
let [reason, asked] = ["The server cannot be reached. Trying again.", -Infinity];
async function why() {
  if (performance.now() - asked < 5000) return;
  asked = performance.now();
  try {
    await get("live");
  } catch (error) {
    reason = error.message;
    showLink(live);
  }
}

function showLink(live) {
  const silent = live.silentSeconds();
  put(textOf("link"), live.link === "live" ? "live" : live.link === "lost" ? "offline" : "connecting");
  mark($("link"), "class", live.link);
  const stale = live.link !== "live" && live.state !== null && silent >= STALE_S;
  const away = live.link === "lost" && live.state === null;
  if (away) why();
  $("stale").hidden = !stale && !away;
  document.body.classList.toggle("is-stale", stale);
  put(textOf("stale"), stale ? "No connection to the server. This is the last that was heard; it goes on by itself." : away ? reason : "");
  if (!live.state) return;
  put(textOf("tenant"), live.state.tenant);
  $("public").hidden = live.state.role !== "staff"; // no way back on the page itself: anybody may stand in front of it
}

const router = new Router($("main"), { "": wall, wall, ranking, course, segments, segment, activities, activity, health }, shown);
const live = new Live(streamAddress("live/stream"));
live.listen((now) => {
  showLink(now);
  router.update(now);
});
router.onopen = () => router.update(live);
startTheme($("theme"));
$("public").addEventListener("click", () => location.assign(screenAddress()));
$("skip").addEventListener("click", () => $("main").focus());
router.start();
live.start();
