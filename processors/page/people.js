// What somebody is called here. Whoever does not want to be named gets a number that stays for as long as the page is open.

const numbers = new Map();

// who: {athlete, name, unknown, device}
export function label(who) {
  if (who.unknown) return who.device || "Unknown device";
  if (who.name) return who.name;
  if (!numbers.has(who.athlete)) numbers.set(who.athlete, numbers.size + 1);
  return `Athlete ${numbers.get(who.athlete)}`;
}
