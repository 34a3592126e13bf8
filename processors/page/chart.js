// A line over distance or time as SVG: area, grid, axis, and a cursor that pointer and arrow keys move.

import { svg } from "./dom.js";

const [WIDTH, HEIGHT] = [800, 190];
const [LEFT, RIGHT, TOP, BOTTOM] = [46, 10, 12, 24];

// Round steps: about `count` of them over a span.
export function steps(low, high, count) {
  const span = Math.max(high - low, 1e-9);
  const raw = span / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const made = [];
  for (let v = Math.ceil(low / step) * step; v <= high + 1e-9; v += step) made.push(Number(v.toPrecision(12)));
  return made;
}

export class Chart {
  // xs rise; ys may hold null: the line breaks there. `axis(x)` and `unit` are words.
  constructor({ label, kind, xs, ys, axis, unit, floor }) {
    const [known, x0, x1] = [ys.filter((y) => y !== null), xs[0], Math.max(xs.at(-1), xs[0] + 1e-9)];
    let [y0, y1] = [Math.min(...known), Math.max(...known)];
    const room = Math.max((y1 - y0) * 0.12, floor);
    [y0, y1] = [y0 - room, y1 + room];
    const px = (x) => LEFT + ((x - x0) / (x1 - x0)) * (WIDTH - LEFT - RIGHT);
    const py = (y) => HEIGHT - BOTTOM - ((y - y0) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);
    Object.assign(this, { xs, ys, px, py, unit, axis });
    this.cursor = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, x1: -9, x2: -9 });
    this.point = svg("circle", { class: "point", r: 5, cx: -9, cy: -9 });
    this.node = svg("svg", { class: `chart ${kind}`, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
    for (const y of steps(y0, y1, 4)) this.node.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: py(y), y2: py(y) }), svg("text", { class: "tick end", x: LEFT - 7, y: py(y) + 4 }, String(y)));
    for (const x of steps(x0, x1, 6)) this.node.append(svg("text", { class: "tick", x: px(x), y: HEIGHT - 6 }, axis(x)));
    for (const piece of this.pieces()) {
      const line = piece.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join("L");
      const [first, last] = [px(piece[0][0]).toFixed(1), px(piece.at(-1)[0]).toFixed(1)];
      this.node.append(svg("path", { class: "area", d: `M${first},${HEIGHT - BOTTOM}L${line}L${last},${HEIGHT - BOTTOM}Z` }), svg("path", { class: "line", d: `M${line}` }));
    }
    this.node.append(this.cursor, this.point);
  }

  pieces() {
    const made = [[]];
    this.ys.forEach((y, i) => {
      if (y !== null) made.at(-1).push([this.xs[i], y]);
      else if (made.at(-1).length) made.push([]);
    });
    return made.filter((piece) => piece.length > 0);
  }

  // The index of the sample under a pointer.
  indexAt(event) {
    const box = this.node.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * WIDTH;
    let [low, high] = [0, this.xs.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.px(this.xs[middle]) < x) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  show(i) {
    const x = i === null ? -9 : this.px(this.xs[i]);
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
    const y = i === null || this.ys[i] === null ? -9 : this.py(this.ys[i]);
    this.point.setAttribute("cx", y === -9 ? -9 : x);
    this.point.setAttribute("cy", y);
  }
}
