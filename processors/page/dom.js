// Small tools for the DOM: make elements, change only what changed, keep a list in step with data by key.

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// The namespace comes from the logo: no address stands in the code, the page asks nobody.
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(document.querySelector("svg").namespaceURI, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// A text node that is written only when its text changes.
export function text(initial = "") {
  return document.createTextNode(initial);
}

export function put(node, value) {
  if (node.data !== value) node.data = value;
}

export function mark(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

// The children of a node as a map of keyed parts: `make(item)` gives {node, ...}, `fill(part, item)` writes it. Order is that of the items.
export class Keyed {
  constructor(holder, keyOf, make, fill) {
    Object.assign(this, { holder, keyOf, make, fill, parts: new Map() });
  }

  show(items) {
    const seen = new Set();
    let at = this.holder.firstElementChild;
    for (const item of items) {
      const key = this.keyOf(item);
      seen.add(key);
      let part = this.parts.get(key);
      if (!part) this.parts.set(key, (part = this.make(item)));
      this.fill(part, item);
      if (part.node === at) at = at.nextElementSibling;
      else this.holder.insertBefore(part.node, at);
    }
    if (this.parts.size === seen.size) return;
    for (const [key, part] of this.parts) {
      if (seen.has(key)) continue;
      part.node.remove();
      this.parts.delete(key);
    }
  }
}
