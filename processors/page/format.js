// Numbers as people read them. A value that is not there is a dash.

const NONE = "–";
const absent = (value) => value === null || value === undefined || Number.isNaN(value);

export const number = (value, digits = 0) => (absent(value) ? NONE : value.toFixed(digits));

export function grouped(value) {
  if (absent(value)) return NONE;
  const digits = String(Math.round(Math.abs(value)));
  return (value < 0 ? "−" : "") + digits.replace(/\B(?=(\d{3})+$)/g, "\u2009");
}

export const kmh = (mps) => (absent(mps) ? NONE : (mps * 3.6).toFixed(1));

export function distance(metres) {
  if (absent(metres)) return NONE;
  return metres < 1000 ? `${metres.toFixed(0)} m` : `${(metres / 1000).toFixed(2)} km`;
}

// 4:05, 1:02:09; with tenths 4:05.3
export function duration(ms, tenths = false) {
  if (absent(ms)) return NONE;
  const unit = tenths ? Math.round(ms / 100) : Math.round(ms / 1000) * 10;
  const [seconds, tenth] = [Math.floor(unit / 10), unit % 10];
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const two = (n) => String(n).padStart(2, "0");
  return `${h ? `${h}:${two(m)}` : m}:${two(s)}${tenths ? `.${tenth}` : ""}`;
}

export function gap(ms) {
  if (absent(ms)) return NONE;
  return `${ms < 0 ? "−" : "+"}${duration(Math.abs(ms), true)}`;
}

export function pace(mps) {
  return !mps || mps < 0.4 ? NONE : `${duration(1e6 / mps)} /km`;
}

export function when(us) {
  if (absent(us)) return NONE;
  return new Date(us / 1000).toLocaleString(undefined, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
}

export function day(us) {
  if (absent(us)) return NONE;
  return new Date(us / 1000).toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" });
}

export function hours(value) {
  if (absent(value)) return NONE;
  return value >= 48 ? `${grouped(value / 24)} days` : `${value.toFixed(1)} h`;
}

export function ordinal(n) {
  const tail = n % 100 >= 11 && n % 100 <= 13 ? "th" : { 1: "st", 2: "nd", 3: "rd" }[n % 10] || "th";
  return `${n}${tail}`;
}
