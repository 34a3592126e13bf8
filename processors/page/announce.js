// Says things to screen readers, politely and not too often: of many changes only the latest is said.

const EVERY_MS = 4000;
let [waiting, last, timer] = ["", -Infinity, 0];

export function announce(sentence) {
  waiting = sentence;
  if (timer) return;
  timer = setTimeout(say, Math.max(0, EVERY_MS - (performance.now() - last)));
}

function say() {
  timer = 0;
  last = performance.now();
  document.getElementById("said").textContent = waiting;
}
