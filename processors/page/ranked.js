// A table whose rows glide to their new places. Places change together at a pace an eye can follow; values change as they come.

import { el } from "./dom.js";

const GLIDE_MS = 520;
const FLASH_MS = 2600;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Ranked {
  // columns: [{key, head, class}]; `make(item)` gives {node, rank} with the row; `fill(part, item)` writes the cells.
  constructor(caption, columns, { keyOf, rankOf, make, fill }) {
    Object.assign(this, { keyOf, rankOf, make, fill, parts: new Map() });
    this.body = el("tbody");
    this.head = el("tr", {}, ...columns.map((c) => el("th", { scope: "col", class: c.class }, c.head)));
    this.node = el("table", { class: "ranked" }, el("caption", { class: "quietly" }, caption), el("thead", {}, this.head), this.body);
  }

  // Returns the rows that rose: [{item, from, to}].
  show(items) {
    const before = calm.matches ? [] : this.inSight();
    const least = Math.max(1, Math.floor(items.length / 50)); // in a crowd a place or two is noise
    const [rose, seen] = [[], new Set()];
    let at = this.body.firstElementChild;
    for (const item of items) {
      const key = this.keyOf(item);
      seen.add(key);
      let part = this.parts.get(key);
      if (!part) this.parts.set(key, (part = this.make(item)));
      this.fill(part, item);
      const rank = this.rankOf(item);
      if (part.rank && rank && Math.abs(rank - part.rank) >= least) {
        if (rank < part.rank) rose.push({ item, from: part.rank, to: rank });
        this.flash(part, rank < part.rank ? "up" : "down");
      }
      part.rank = rank;
      if (part.node === at) at = at.nextElementSibling;
      else this.body.insertBefore(part.node, at);
    }
    for (const [key, part] of this.parts) {
      if (seen.has(key)) continue;
      part.node.remove();
      this.parts.delete(key);
    }
    for (const [part, was] of before) this.glide(part, was);
    return rose;
  }

  // The rows that somebody can see, and where they are; the others just are at their new place.
  inSight() {
    const rows = [...this.parts.values()];
    if (!rows.length) return [];
    const top = this.body.getBoundingClientRect().top;
    return rows.map((part) => [part, part.node.offsetTop]).filter(([, at]) => top + at > -100 && top + at < innerHeight + 100);
  }

  refill(items) {
    for (const item of items) {
      const part = this.parts.get(this.keyOf(item));
      if (part) this.fill(part, item);
    }
  }

  flash(part, way) {
    part.node.dataset.moved = way;
    clearTimeout(part.timer);
    part.timer = setTimeout(() => delete part.node.dataset.moved, FLASH_MS);
  }

  glide(part, was) {
    const by = part.node.isConnected ? was - part.node.offsetTop : 0;
    if (by) part.node.animate([{ transform: `translateY(${by}px)` }, { transform: "none" }], { duration: GLIDE_MS, easing: "cubic-bezier(.2,.7,.2,1)" });
  }
}

// The arrow beside a rank; the words are for screen readers, style.css shows what fits `data-moved`.
export function arrows() {
  return el("span", { class: "moved", "aria-hidden": "true" }, el("i", { class: "up" }, "▲"), el("i", { class: "down" }, "▼"));
}
