// A map without map tiles: lines on one canvas, moving dots on another above it. Dots glide to where they were heard last in the time that
// passed between the last two places, so that they move evenly; nothing is drawn while nothing moves.

import { colour } from "./theme.js";

const EARTH_M = 111195; // metres per degree of latitude
const FRAME_MS = 33;
const CROWD = 60; // from here on half the pictures do
const TRAIL_M = 6; // a trail grows by pieces of this length
const JUMP_M = 300; // farther than this between two places is no way anybody went: the dot jumps and leaves no trail
const FAR_M = 60000; // a dot farther than this from the rest does not widen the view
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class CourseMap {
  constructor(base, top) {
    Object.assign(this, { base, top, lines: [], dots: new Map(), box: null, origin: null, focus: null, scale: 0, drawnAt: 0, stopped: false });
    this.resized = new ResizeObserver(() => this.redraw());
    this.resized.observe(base);
    this.themed = () => this.redraw();
    document.addEventListener("themechange", this.themed);
    requestAnimationFrame((now) => this.frame(now));
  }

  close() {
    this.stopped = true;
    this.resized.disconnect();
    document.removeEventListener("themechange", this.themed);
  }

  metres(lat, lon) {
    if (!this.origin) this.origin = { lat, lon, across: EARTH_M * Math.cos((lat * Math.PI) / 180) };
    return [(lon - this.origin.lon) * this.origin.across, (lat - this.origin.lat) * EARTH_M];
  }

  // lines: [{kind: "segment" | "track", name, points: [[lat, lon]]}]
  setLines(lines) {
    this.lines = lines.map((line) => ({ ...line, xy: line.points.map(([lat, lon]) => this.metres(lat, lon)) }));
    for (const line of this.lines) for (const [x, y] of line.xy) this.widen(x, y);
    this.redraw();
  }

  // The lines to fill the map with; null: everything.
  setFocus(name) {
    this.focus = name;
    this.redraw();
  }

  // dots: [{subject, lat, lon, name, zone, rank, live}]
  setDots(list) {
    const [now, seen] = [performance.now(), new Set()];
    for (const d of list) {
      seen.add(d.subject);
      const [x, y] = this.metres(d.lat, d.lon);
      let dot = this.dots.get(d.subject);
      if (!dot) this.dots.set(d.subject, (dot = { x, y, fx: x, fy: y, tx: x, ty: y, at: now, ms: 0, trail: [[x, y]] }));
      if (Math.hypot(x - dot.tx, y - dot.ty) > JUMP_M) Object.assign(dot, { x, y, fx: x, fy: y, tx: x, ty: y, at: now, ms: 0, trail: [[x, y]] });
      if (x !== dot.tx || y !== dot.ty) {
        dot.ms = calm.matches ? 0 : Math.min(Math.max(now - dot.at, 250), 6000);
        Object.assign(dot, { fx: dot.x, fy: dot.y, tx: x, ty: y, at: now });
      }
      Object.assign(dot, { name: d.name, zone: d.zone, rank: d.rank, live: d.live });
      if (this.widen(x, y)) this.stale = true;
    }
    for (const subject of this.dots.keys()) if (!seen.has(subject)) this.dots.delete(subject);
    if (this.stale) this.redraw();
    this.moved = true;
  }

  widen(x, y) {
    const b = this.box;
    if (!b) {
      this.box = { x0: x - 40, x1: x + 40, y0: y - 40, y1: y + 40 };
      return true;
    }
    if (x >= b.x0 && x <= b.x1 && y >= b.y0 && y <= b.y1) return false;
    if (Math.abs(x - (b.x0 + b.x1) / 2) > FAR_M || Math.abs(y - (b.y0 + b.y1) / 2) > FAR_M) return false;
    const more = 0.06 * Math.max(b.x1 - b.x0, b.y1 - b.y0); // some room ahead, so that the view does not shake
    if (x < b.x0) b.x0 = x - more;
    if (x > b.x1) b.x1 = x + more;
    if (y < b.y0) b.y0 = y - more;
    if (y > b.y1) b.y1 = y + more;
    return true;
  }

  shownBox() {
    const lines = this.focus ? this.lines.filter((line) => line.name === this.focus) : [];
    const points = lines.flatMap((line) => line.xy);
    if (!points.length) return this.box;
    const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
    return { x0: Math.min(...xs) - 30, x1: Math.max(...xs) + 30, y0: Math.min(...ys) - 30, y1: Math.max(...ys) + 30 };
  }

  fit() {
    const ratio = devicePixelRatio || 1;
    const [width, height] = [this.base.clientWidth, this.base.clientHeight];
    if (!width || !height || !this.box) return false;
    for (const canvas of [this.base, this.top]) {
      if (canvas.width === Math.round(width * ratio) && canvas.height === Math.round(height * ratio)) continue;
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const b = this.shownBox();
    this.scale = Math.min((width - 72) / (b.x1 - b.x0), (height - 64) / (b.y1 - b.y0));
    const [cx, cy] = [(b.x0 + b.x1) / 2, (b.y0 + b.y1) / 2];
    this.px = (x) => width / 2 + (x - cx) * this.scale;
    this.py = (y) => height / 2 - (y - cy) * this.scale;
    Object.assign(this, { width, height, ratio });
    return true;
  }

  redraw() {
    this.stale = false;
    if (!this.fit()) return;
    const c = (this.colours = Object.fromEntries(["text", "panel", "track", "segment", "soft", "z0", "z1", "z2", "z3", "z4", "z5"].map((n) => [n, colour(`--dot-${n}`)])));
    const g = this.base.getContext("2d");
    g.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    g.clearRect(0, 0, this.width, this.height);
    g.lineJoin = g.lineCap = "round";
    for (const line of this.lines) if (line.kind === "track") this.stroke(g, line.xy, c.track, 3);
    for (const dot of this.dots.values()) this.stroke(g, dot.trail, c.track, 3);
    for (const line of this.lines) if (line.kind === "segment") this.stroke(g, line.xy, c.segment, 5);
    const segments = this.lines.filter((line) => line.kind === "segment" && line.xy.length > 1);
    this.names = [];
    for (const line of segments) this.gates(g, line, c);
    for (const line of segments) this.nameStart(g, line, c);
    this.bar(g, c);
    this.moved = true;
  }

  stroke(g, xy, style, width) {
    g.strokeStyle = style;
    g.lineWidth = width;
    g.beginPath();
    xy.forEach(([x, y], i) => (i ? g.lineTo(this.px(x), this.py(y)) : g.moveTo(this.px(x), this.py(y))));
    g.stroke();
  }

  // Start as a ring, finish as a chequered square.
  gates(g, { xy }, c) {
    const [[sx, sy], [ex, ey]] = [xy[0], xy.at(-1)].map(([x, y]) => [this.px(x), this.py(y)]);
    g.lineWidth = 3;
    g.fillStyle = c.panel;
    g.strokeStyle = c.text;
    g.beginPath();
    g.arc(sx, sy, 6, 0, 7);
    g.fill();
    g.stroke();
    g.lineWidth = 1;
    for (let i = 0; i < 4; i++) for (let k = 0; k < 4; k++) {
      g.fillStyle = (i + k) % 2 ? c.text : c.panel;
      g.fillRect(ex - 8 + 4 * i, ey - 8 + 4 * k, 4, 4);
    }
    g.strokeRect(ex - 8, ey - 8, 16, 16);
    this.names.push([sx - 8, sy - 8, sx + 8, sy + 8], [ex - 9, ey - 9, ex + 9, ey + 9]);
  }

  // The name of a segment near its start, where it covers the least.
  nameStart(g, { xy, name }, c) {
    this.type(g);
    const [wide, high] = [g.measureText(name).width, 18];
    const [sx, sy] = [this.px(xy[0][0]), this.py(xy[0][1])];
    const spots = [[-wide / 2, -30], [-wide / 2, 12], [14, -9], [-wide - 14, -9], [10, -28], [10, 10], [-wide - 10, -28], [-wide - 10, 10]];
    const points = this.lines.flatMap((line) => line.xy).map(([x, y]) => [this.px(x), this.py(y)]);
    let [best, least] = [null, Infinity];
    for (const [dx, dy] of spots) {
      const box = [sx + dx, sy + dy, sx + dx + wide, sy + dy + high];
      const out = box[0] < 4 || box[2] > this.width - 4 || box[1] < 4 || box[3] > this.height - 4;
      const hit = this.names.filter((t) => box[0] < t[2] && t[0] < box[2] && box[1] < t[3] && t[1] < box[3]).length;
      const covered = points.filter(([x, y]) => x > box[0] - 6 && x < box[2] + 6 && y > box[1] - 6 && y < box[3] + 6).length;
      const cost = (out ? 1e6 : 0) + 1000 * hit + covered;
      if (cost < least) [best, least] = [box, cost];
    }
    this.names.push(best);
    this.write(g, name, best[0], best[3] - 4, c);
  }

  type(g) {
    g.font = `600 ${this.width > 1300 ? 17 : 13}px system-ui, sans-serif`;
  }

  write(g, what, x, y, c) {
    this.type(g);
    g.textAlign = "left";
    g.lineJoin = "round";
    g.lineWidth = 4;
    g.strokeStyle = c.panel;
    g.fillStyle = c.text;
    g.strokeText(what, x, y);
    g.fillText(what, x, y);
  }

  bar(g, c) {
    const metres = [20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000].findLast((m) => m * this.scale < 160) || 10;
    const wide = metres * this.scale;
    g.strokeStyle = g.fillStyle = c.soft;
    g.lineWidth = 2;
    g.beginPath();
    g.moveTo(16, this.height - 20);
    g.lineTo(16, this.height - 14);
    g.lineTo(16 + wide, this.height - 14);
    g.lineTo(16 + wide, this.height - 20);
    g.stroke();
    g.font = "12px system-ui, sans-serif";
    g.textAlign = "left";
    g.fillText(metres < 1000 ? `${metres} m` : `${metres / 1000} km`, 22, this.height - 20);
  }

  frame(now) {
    if (this.stopped) return;
    requestAnimationFrame((next) => this.frame(next));
    if (now - this.drawnAt < (this.dots.size > CROWD ? 2 * FRAME_MS : FRAME_MS) || !this.scale) return;
    for (const dot of this.dots.values()) {
      const share = dot.ms ? Math.min((performance.now() - dot.at) / dot.ms, 1) : 1;
      dot.x = dot.fx + (dot.tx - dot.fx) * share;
      dot.y = dot.fy + (dot.ty - dot.fy) * share;
      const [x, y] = dot.trail.at(-1);
      const gone = Math.hypot(dot.x - x, dot.y - y);
      if (gone > TRAIL_M && gone * this.scale > 1.5) this.leave(dot, x, y);
      if (Math.abs((dot.x - dot.sx) * this.scale) > 0.4 || Math.abs((dot.y - dot.sy) * this.scale) > 0.4) this.moved = true;
    }
    if (!this.moved) return;
    this.moved = false;
    this.drawnAt = now;
    this.drawDots();
  }

  leave(dot, x, y) {
    dot.trail.push([dot.x, dot.y]);
    if (dot.trail.length > 2000) dot.trail = dot.trail.filter((_, i) => i % 2 === 0 || i === dot.trail.length - 1);
    const g = this.base.getContext("2d");
    g.globalCompositeOperation = "destination-over"; // below the segments that are drawn already
    this.stroke(g, [[x, y], [dot.x, dot.y]], this.colours.track, 3);
    g.globalCompositeOperation = "source-over";
  }

  drawDots() {
    const [g, c] = [this.top.getContext("2d"), this.colours];
    g.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    g.clearRect(0, 0, this.width, this.height);
    const ordered = [...this.dots.values()].sort((a, b) => (b.rank || 1e9) - (a.rank || 1e9));
    const radius = this.width > 1300 ? 9 : 7;
    const taken = [...this.names];
    g.strokeStyle = c.panel;
    g.lineWidth = 2;
    for (const dot of ordered) {
      [dot.sx, dot.sy] = [dot.x, dot.y];
      g.globalAlpha = dot.live ? 1 : 0.5;
      g.fillStyle = c[`z${dot.zone || 0}`];
      g.beginPath();
      g.arc(this.px(dot.x), this.py(dot.y), radius, 0, 7);
      g.fill();
      g.stroke();
      const [x, y] = [this.px(dot.x), this.py(dot.y)];
      taken.push([x - radius, y - radius, x + radius, y + radius]);
    }
    g.globalAlpha = 1;
    for (const dot of ordered.reverse()) this.labelDot(g, dot, radius, taken, c);
  }

  // The front first; a name that finds no room is left out. Each is drawn once and then copied.
  labelDot(g, dot, radius, taken, c) {
    const what = dot.rank && dot.rank <= 3 ? `${dot.rank} ${dot.name}` : dot.name;
    const key = `${what} ${c.text} ${this.width > 1300}`;
    if (dot.sprite?.key !== key) dot.sprite = this.sprite(what, key, c);
    const { canvas, wide, high } = dot.sprite;
    const [x, y] = [this.px(dot.x), this.py(dot.y)];
    const places = [[x + radius + 3, y - high / 2], [x - radius - 3 - wide, y - high / 2], [x - wide / 2, y - radius - 1 - high], [x - wide / 2, y + radius + 1]];
    for (const [left, top] of places) {
      const box = [left, top, left + wide, top + high];
      if (left < 2 || box[2] > this.width - 2 || top < 2 || box[3] > this.height - 2) continue;
      if (taken.some((t) => left < t[2] && t[0] < box[2] && top < t[3] && t[1] < box[3])) continue;
      taken.push(box);
      g.drawImage(canvas, left, top, wide, high);
      return;
    }
  }

  sprite(what, key, c) {
    const canvas = document.createElement("canvas");
    const [g, high] = [canvas.getContext("2d"), this.width > 1300 ? 22 : 18];
    this.type(g);
    const wide = Math.ceil(g.measureText(what).width) + 4;
    canvas.width = wide * this.ratio;
    canvas.height = high * this.ratio;
    g.scale(this.ratio, this.ratio);
    this.write(g, what, 2, high - 5, c);
    return { key, canvas, wide, high };
  }
}
