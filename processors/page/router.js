// Views by the part of the address behind #: `#/segment/hill?sex=f` opens the view `segment` with id `hill` and its query.

export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [name = "", ...rest] = path.split("/");
  return { name, id: decodeURIComponent(rest.join("/")), query: new URLSearchParams(query) };
}

export function link(name, id = "", query = {}) {
  const params = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  const rest = params.toString();
  return `#/${name}${id ? `/${encodeURIComponent(id)}` : ""}${rest ? `?${rest}` : ""}`;
}

export class Router {
  constructor(main, views, shown) {
    Object.assign(this, { main, views, shown, current: null });
  }

  start() {
    addEventListener("hashchange", () => this.open(true));
    this.open(false);
  }

  open(byHand) {
    if (location.hash && !location.hash.startsWith("#/")) return;
    const route = parse(location.hash);
    const view = this.views[route.name] || this.views[""];
    const same = this.current?.view === view && this.current.route.id === route.id;
    this.current?.part.close?.();
    this.main.replaceChildren();
    this.main.className = `view-${view.name}`;
    const part = view.open(this.main, route);
    this.current = { view, route, part };
    this.shown(view, route);
    this.onopen?.();
    if (!byHand || same) return;
    scrollTo(0, 0);
    this.main.focus({ preventScroll: true });
  }

  update(live) {
    this.current?.part.update?.(live);
  }
}
