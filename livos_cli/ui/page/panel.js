// Beside the picture: objects, facts of the frame, doubts, and the two dialogs.

import { Refused, post } from "./api.js";
import { certaintyAt, doubts, state } from "./state.js";

const KINDS = {
  mask: "for programs: ids 1, 2, …, which look black", overlay: "colours over the video, with sound",
  png: "an index PNG a frame", alpha: "ProRes 4444 with alpha, for editors", matte: "soft matte, grey",
  cutout: "the objects on green", objects: "a mask video an object", rle: "COCO run lengths",
  coco: "COCO annotations", yolo: "YOLO polygons", contours: "outlines, SVG",
};
export const KEYS = [
  ["← →", "a frame back, on (with Shift: ten)"], ["Home, End", "first, last frame"], ["Space, K", "play, pause"],
  ["N, P", "next, previous doubtful frame"], [", .", "previous, next key mask"],
  ["V, B, E", "click, brush, eraser"], ["[ ]", "smaller, larger brush"],
  ["click", "the object is here"], ["right click, Alt-click", "it is not here"], ["drag", "a box around it"],
  ["Ctrl with arrows", "move a cursor over the picture (with Shift: finely)"],
  ["Enter, Shift+Enter", "here, not here, at that cursor"],
  ["1 to 9", "choose an object"], ["A", "add an object"], ["H", "hide, show the chosen object"],
  ["T", "track from here to the end"], ["Shift+T", "track all that is out of date"],
  ["Shift+B", "track back to the beginning"], ["U", "after a correction: track to the next key mask"],
  ["Esc", "stop"], ["L", "lock, unlock this frame"], ["G", "the chosen object is gone from here on"],
  ["Delete", "remove this frame's key mask"], ["I, O", "the range begins, ends here"],
  ["Ctrl+Z, Ctrl+Shift+Z", "undo, redo"], ["M", "show, hide masks"],
  ["wheel, + −", "zoom"], ["Space and drag", "move the picture"], ["0", "the whole picture"],
  ["X", "export"], ["?", "these keys"],
];
const by = (id) => document.getElementById(id);
let acts = {};

export function begin(handlers) {
  acts = handlers;
  const list = by("keys");
  for (const [key, what] of KEYS) {
    const row = made("div");
    row.append(made("dt", key), made("dd", what));
    list.append(row);
  }
  by("help").onclick = () => by("help-dialog").showModal();
  by("help-close").onclick = () => by("help-dialog").close();
  by("export").onclick = openExport;
  by("export-close").onclick = () => by("export-dialog").close();
  by("export-go").onclick = () => startExport(false);
  by("export-replace").onclick = () => startExport(true);
  by("copy").onclick = copy;
}

function made(tag, text = "", fields = {}) {
  return Object.assign(document.createElement(tag), { textContent: text }, fields);
}

export function drawObjects() {
  const list = by("objects");
  const ids = new Set(state.project.objects.map((one) => String(one.id)));
  for (const row of [...list.children]) if (!ids.has(row.dataset.id)) row.remove();
  state.project.objects.forEach((one, place) => { // rows that stay are not touched: a name may be typed
    const there = list.children[place];
    if (there?.dataset.id !== String(one.id)) list.insertBefore(makeRow(one), there ?? null);
    fillRow(list.children[place], one);
  });
}

function makeRow(one) {
  const row = made("li");
  row.dataset.id = one.id;
  const change = (fields) => acts.change(one.id, fields);
  const colour = made("input", "", { type: "color", title: "Colour" });
  colour.onchange = () => change({ colour: colour.value });
  const name = made("input", "", { type: "text", maxLength: 80, className: "name", readOnly: true });
  name.title = "Double-click, or Enter, to rename";
  const rename = () => {
    name.readOnly = false;
    name.select();
  };
  name.onfocus = () => acts.choose(one.id);
  name.onblur = () => (name.readOnly = true);
  name.ondblclick = rename;
  name.onkeydown = (event) => {
    if (event.key === "Enter" && name.readOnly) rename();
    else if (event.key === "Enter") name.blur();
    else if (event.key === "Escape" && !name.readOnly) {
      name.value = state.project.objects.find((object) => object.id === one.id)?.name ?? "";
      name.blur();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  name.onchange = () => change({ name: name.value.trim() || `object ${one.id}` });
  const visible = made("button", "", { title: "Show or hide" });
  visible.onclick = () => change({ visible: visible.getAttribute("aria-pressed") !== "true" });
  const locked = made("button", "", { title: "Lock: no click changes it" });
  locked.onclick = () => change({ locked: locked.getAttribute("aria-pressed") !== "true" });
  const remove = made("button", "×", { title: "Remove from all key masks" });
  remove.onclick = () => acts.remove(one);
  row.onclick = () => acts.choose(one.id);
  row.append(colour, name, made("span", "", { className: "sure" }), visible, locked, remove);
  return row;
}

function fillRow(row, one) {
  const [colour, name, sure, visible, locked, remove] = row.children;
  row.classList.toggle("chosen", one.id === state.object);
  row.setAttribute("aria-current", one.id === state.object);
  if (document.activeElement !== colour) colour.value = one.colour;
  if (document.activeElement !== name || name.readOnly) name.value = one.name;
  colour.setAttribute("aria-label", `Colour of ${one.name}`);
  name.setAttribute("aria-label", `Name of object ${one.id}`);
  visible.textContent = one.visible ? "shown" : "hidden";
  visible.setAttribute("aria-pressed", one.visible);
  visible.setAttribute("aria-label", `Show ${one.name}`);
  locked.textContent = one.locked ? "locked" : "lock";
  locked.setAttribute("aria-pressed", one.locked);
  locked.setAttribute("aria-label", `Lock ${one.name}`);
  remove.setAttribute("aria-label", `Remove ${one.name}`);
  const value = state.certainty.get(one.id)?.[state.frame] ?? -1;
  sure.textContent = value < 0 ? "" : `${Math.round(100 * value)} %`;
  sure.title = value < 0 ? "" : "how likely its mask is right here";
  sure.classList.toggle("low", value >= 0 && value < state.project.doubtful);
}

export function drawFacts() {
  const { project, frame } = state;
  const key = project.keys.includes(frame), locked = project.locked.includes(frame);
  const told = ["not tracked yet", "tracked, out of date", "tracked"][state.status[frame] ?? 0];
  const least = certaintyAt(frame);
  const parts = [key ? (locked ? "key mask, locked" : "key mask") : null, told];
  if (least && least.value < project.doubtful) parts.push("doubtful");
  by("frame-facts").textContent = parts.filter(Boolean).join("; ");
  by("lock").textContent = locked ? "Unlock" : "Lock";
  by("remove-key").disabled = !key || locked;
  const found = doubts();
  by("doubts").textContent = found.length
    ? `${found.length} ${found.length === 1 ? "place" : "places"} to look at`
    : state.status.some((one) => one) ? "none" : "known after tracking";
  by("doubt-next").disabled = by("doubt-previous").disabled = !found.length;
  const corrected = key && state.status[frame] !== 2 && state.status.some((one) => one);
  by("track-update").classList.toggle("main", corrected);
  by("track").classList.toggle("main", !corrected);
  by("undo").disabled = !project.undo;
  by("redo").disabled = !project.redo;
  by("undo").title = project.undo ? `Undo: ${project.undo} (Ctrl+Z)` : "Undo (Ctrl+Z)";
  by("redo").title = project.redo ? `Redo: ${project.redo} (Ctrl+Shift+Z)` : "Redo (Ctrl+Shift+Z)";
}

export function openExport() {
  const kinds = by("kinds");
  if (!kinds.children.length) {
    for (const kind of state.project.kinds) {
      const label = made("label");
      const box = made("input", "", { type: "checkbox", value: kind, checked: kind === "mask" || kind === "overlay" });
      const text = made("span", `${kind} `);
      text.append(made("small", KINDS[kind] ?? ""));
      label.append(box, text);
      kinds.append(label);
    }
  }
  const { project } = state;
  const [first, end] = project.range;
  let missing = 0;
  for (let n = first; n < end; n++) missing += state.status[n] !== 2;
  const frames = first || end < project.frames ? `frames ${first} to ${end - 1}` : "the whole video";
  const before = missing ? `; ${missing} of them are tracked first` : "";
  by("export-where").textContent = `Into ${project.folder}: ${frames}${before}.`;
  if (!by("export-dialog").open) by("export-dialog").showModal();
}

async function startExport(overwrite) {
  by("export-replace").hidden = by("command").hidden = by("copy").hidden = true;
  const kinds = [...by("kinds").querySelectorAll("input:checked")].map((box) => box.value);
  try {
    await post("export", { kinds, overwrite });
    say("tracking what is out of date …");
  } catch (error) {
    const there = error instanceof Refused && error.exists;
    say(there ? error.message.split(" — ")[0] : error.message);
    by("export-replace").hidden = !there;
    if (there) by("export-replace").focus();
  }
}

function say(text) {
  by("export-said").textContent = text;
}

export function exportNews(job) {
  by("export-go").disabled = job.state === "runs" || job.state === "begins";
  if (job.state === "runs") say(`${job.done} of ${job.total} frames`);
  if (job.state === "failed") say(job.hint ? `${job.error} — ${job.hint}` : job.error);
  if (job.state === "stopped") say(job.why);
  if (job.state !== "done") return;
  const more = job.warnings.length ? `; look at: ${job.warnings.join("; ")}` : "";
  say(`written to ${state.project.folder}: ${job.files.join(", ")}${more}`);
  by("command").textContent = job.command;
  by("command").hidden = by("copy").hidden = false;
}

async function copy() {
  try {
    await navigator.clipboard.writeText(by("command").textContent);
    by("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(by("command"));
    say("press Ctrl+C to copy what is marked");
  }
}
