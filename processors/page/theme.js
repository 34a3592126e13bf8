// Dark or light: that of the system until somebody chooses.

const KEY = "paceline-theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

function stored() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // storage can be forbidden; the choice then lasts as long as the page
  }
}

export function startTheme(button) {
  let chosen = stored();
  const now = () => chosen || (dark.matches ? "dark" : "light");
  function show() {
    document.documentElement.dataset.theme = now();
    const other = now() === "dark" ? "light" : "dark";
    button.setAttribute("aria-label", `Use the ${other} colours`);
    button.title = `Use the ${other} colours`;
    document.dispatchEvent(new Event("themechange"));
  }
  button.addEventListener("click", () => {
    chosen = now() === "dark" ? "light" : "dark";
    try {
      localStorage.setItem(KEY, chosen);
    } catch {
      // see above
    }
    show();
  });
  dark.addEventListener("change", show);
  show();
}

// A custom property as the canvas needs it: a colour, not a formula.
export function colour(name) {
  const probe = document.getElementById("probe");
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}
