// Naming an unknown device: one click, one name, and a bar that takes it back. And which devices count for an athlete.

import { ApiError, get, send } from "./api.js";
import { el } from "./dom.js";
import { when } from "./format.js";
import { label } from "./people.js";

const UNDO_MS = 20000;
const $ = (id) => document.getElementById(id);
let undoTimer = 0;

// An id from a name: "Jörg Müller" -> "jorg-muller"; made unlike those that exist.
export function idFor(name, taken) {
  const plain = name.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").toLowerCase().replaceAll("ß", "ss");
  const stem = plain.replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 28) || "athlete";
  let id = stem;
  for (let n = 2; taken.has(id); n++) id = `${stem}-${n}`;
  return id;
}

function dialog(title, body, from) {
  const box = $("dialog");
  box.replaceChildren(el("h2", { id: "dialog-title" }, title), body);
  box.onclose = () => from.isConnected && from.focus();
  box.onclick = (event) => {
    if (event.target === box) box.close(); // a handler that returns false would keep buttons from doing what they are for
  };
  box.showModal();
  return box;
}

async function athletes() {
  const { athletes: list } = await get("athletes");
  return list;
}

export async function openBinding(athlete, from) {
  const { node, device } = athlete;
  const input = el("input", { id: "athlete-name", list: "athlete-names", autocomplete: "off", maxlength: 80, required: true });
  const names = el("datalist", { id: "athlete-names" });
  const wrong = el("p", { class: "wrong", role: "alert" });
  const submit = el("button", { type: "submit", class: "main" }, "This is the one");
  const form = el(
    "form",
    { method: "dialog" },
    el("p", { class: "soft" }, `Device ${device} sends and belongs to nobody.`),
    el("label", { for: "athlete-name" }, "Athlete"),
    input,
    names,
    wrong,
    el("div", { class: "buttons" }, el("button", { type: "button", onclick: () => box.close() }, "Cancel"), submit),
  );
  const box = dialog("Who is this?", form, from);
  input.focus();
  let known = [];
  try {
    known = await athletes();
    names.replaceChildren(...known.filter((a) => a.name).map((a) => el("option", { value: a.name }, a.id)));
  } catch (error) {
    wrong.textContent = error.message;
  }
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const name = input.value.trim();
    if (!name || submit.disabled) return;
    submit.disabled = true;
    try {
      const given = name.toLowerCase();
      const same = known.find((a) => a.name?.toLowerCase() === given || a.id === given);
      const id = same?.id ?? idFor(name, new Set(known.map((a) => a.id)));
      const made = await send("POST", "bindings", { node, device, athlete: id, ...(same ? {} : { name }) });
      box.close();
      showUndo(`${device} now counts for ${same?.name || name}.`, made.id, same ? null : id);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      wrong.textContent = error.message;
    } finally {
      submit.disabled = false;
    }
  });
}

function showUndo(sentence, binding, madeAthlete) {
  const bar = $("undo");
  const undo = el("button", { type: "button" }, "Undo");
  const said = el("span", {}, sentence);
  bar.replaceChildren(said, undo, el("button", { type: "button", class: "plain", "aria-label": "Close", onclick: hideUndo }, "×"));
  bar.hidden = false;
  clearTimeout(undoTimer);
  undoTimer = setTimeout(hideUndo, UNDO_MS);
  undo.addEventListener("click", async () => {
    undo.disabled = true;
    try {
      await send("DELETE", `bindings/${binding}`);
      if (madeAthlete) await send("DELETE", `athletes/${madeAthlete}`);
      said.textContent = "Taken back.";
      undo.remove();
    } catch (error) {
      said.textContent = error.message;
      undo.disabled = false;
    }
  });
}

function hideUndo() {
  $("undo").hidden = true;
}

// Which devices count for an athlete; each can be released from now on.
export async function openDevices(athlete, from) {
  const list = el("ul", { class: "lines" });
  const note = el("p", { class: "soft" }, "Looking …");
  const box = dialog(label(athlete), el("div", {}, note, list, el("div", { class: "buttons" }, el("button", { type: "button", onclick: () => box.close() }, "Close"))), from);
  async function show() {
    try {
      const { bindings } = await get("bindings");
      const mine = bindings.filter((b) => b.athlete === athlete.athlete && !b.to_us);
      note.textContent = mine.length ? "Devices that count for this athlete:" : "No device is bound here: the box stamps this name itself.";
      list.replaceChildren(...mine.map((b) => line(b)));
    } catch (error) {
      note.textContent = error.message;
    }
  }
  function line(b) {
    const release = el("button", { type: "button", class: "small" }, "Release");
    release.addEventListener("click", async () => {
      release.disabled = true;
      try {
        await send("POST", `bindings/${b.id}/end`);
        await show();
      } catch (error) {
        note.textContent = error.message;
        release.disabled = false;
      }
    });
    return el("li", {}, el("span", {}, b.device, el("small", { class: "soft" }, b.from_us ? ` since ${when(b.from_us)}` : "")), release);
  }
  show();
}
