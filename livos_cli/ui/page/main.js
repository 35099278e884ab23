// Everything together: what is pressed, what is heard, what is shown.

import { get, listen, bytes, post, upload } from "./api.js";
import * as fields from "./fields.js";
import * as panel from "./panel.js";
import * as playback from "./playback.js";
import { clock, doubts, setFrame, setTimeline, state } from "./state.js";
import * as timeline from "./timeline.js";
import * as view from "./view.js";

const by = (id) => document.getElementById(id);
const TRACKED = { forward: "track", backward: "track-back", update: "track-update", all: "track-all" };
let working = Promise.resolve(), connected = false;
let following = false; // the tracking that runs
let timelines = 0; // that were asked for

function say(text, bad = false) {
  by("said").textContent = text ?? "";
  by("said").title = text ?? "";
  by("said").classList.toggle("bad", bad);
}

function failed(error) {
  say(error.message, true);
}

// One change after the other, in the order in which they were asked for.
function act(what) {
  working = working.then(async () => {
    try {
      await what();
    } catch (error) {
      failed(error);
    }
  });
  return working;
}

function change(name, body, after = () => {}) {
  return act(async () => {
    const told = await post(name, body);
    say(told.said ?? "");
    await after(told);
  });
}

// Where the user is

function seek(frame, scrubbing = false) {
  following = false;
  move(frame, scrubbing);
  playback.fromHere();
}

function move(frame, scrubbing) {
  const last = state.project.frames - 1;
  state.frame = Math.min(last, Math.max(0, frame));
  fields.fill();
  view.show(state.frame, scrubbing);
  refresh();
}

function refresh() {
  const [first, end] = state.project.range;
  const whole = first === 0 && end === state.project.frames;
  by("range").textContent = whole ? "" : `${clock(state.times[first])} to ${clock(state.times[end - 1])}, ${end - first} frames`;
  by("whole").hidden = whole;
  panel.drawObjects();
  panel.drawFacts();
  timeline.draw();
  drawHint();
}

async function settled(frame) {
  try {
    const told = await get(`/api/marks/${frame}`);
    if (frame === state.frame) view.setMarks(told, frame);
    if (!playback.isPlaying() && !state.job) post("prepare", { frame }).catch(() => {});
  } catch (error) {
    failed(error);
  }
}

function drawHint() {
  const { project, job } = state;
  let text = "";
  if (!project.keys.length) {
    text = "Click the object. Where it takes too much, right-click; where too little, click again. Then press T to track it.";
  } else if (!state.status.some((one) => one) && !job) {
    const back = project.keys[0] > project.range[0] ? ", Shift+T to track it both ways" : "";
    text = `Press T to track it to the end${back}. A adds another object first.`;
  }
  by("hint").textContent = text;
  by("hint").hidden = !text;
}

function play() {
  if (playback.isPlaying()) {
    playback.stop();
    seek(state.frame);
  } else playback.begin((frame) => move(frame, true), play);
  by("play").textContent = playback.isPlaying() ? "Pause" : "Play";
}

function jump(way) {
  const places = doubts().map((one) => one.begin);
  jumpTo(places, way, "no doubtful frame there");
}

function jumpTo(places, way, nothing) {
  const there = places.filter((frame) => (frame - state.frame) * way > 0);
  const from = there.length ? there : places; // around the end
  if (!from.length) {
    say(nothing);
    return;
  }
  const frame = way > 0 ? from[0] : from[from.length - 1];
  const around = there.length ? "" : ", from the other end";
  say(`${places.indexOf(frame) + 1} of ${places.length}${around}`);
  seek(frame);
}

// What is done to the project

// On the object that is chosen now, whenever it is done; the first one is made when it is wanted.
function mark(name, frame, body) {
  const chosen = state.object;
  following = false;
  if (frame !== state.frame) seek(frame);
  act(async () => {
    let object = chosen ?? state.object;
    if (object === null) object = state.object = (await post("add_object", {})).object;
    const told = await post(name, { frame, object, ...body });
    say(told.said ?? "");
  });
}

function choose(object) {
  state.object = object;
  refresh();
  view.draw();
}

function pickTool(tool) {
  state.tool = tool;
  for (const one of ["click", "brush", "eraser"]) {
    by(`tool-${one}`).setAttribute("aria-pressed", one === tool);
  }
  view.draw();
}

const track = (what) => change("track", { what, frame: state.frame });
const addObject = () => change("add_object", {}, (told) => choose(told.object));
const gone = () => state.object !== null && change("drop", { frame: state.frame, object: state.object });
const lock = () => change("lock", { frame: state.frame });
const removeKey = () => change("remove_key", { frame: state.frame });
const undo = () => change("undo", {}, (told) => told.frame !== null && told.frame !== state.frame && seek(told.frame));
const redo = () => change("redo", {}, (told) => told.frame !== null && told.frame !== state.frame && seek(told.frame));

function edge(begins) {
  const [first, end] = state.project.range;
  const body = begins ? { first: state.frame, end } : { first, end: state.frame + 1 };
  if (body.first >= body.end) {
    say(begins ? "that is after Out: set Out later first" : "that is before In: set In earlier first", true);
    return;
  }
  change("set_range", body);
}

function hideChosen() {
  const one = state.project.objects.find((object) => object.id === state.object);
  if (one) change("edit_object", { object: one.id, visible: !one.visible });
}

// News from the server

async function heard(news) {
  if (news.kind === "lost") {
    connected = false;
    state.job = null;
    by("stop").disabled = by("progress").hidden = true;
    by("pace").textContent = "";
    say("the server does not answer: start `livos ui` again, and open its new address", true);
  } else if (news.kind === "open" || news.kind === "reload") {
    if (!connected || news.kind === "reload") await load();
    connected = true;
  } else if (!state.project) {
    return;
  } else if (news.kind === "project") {
    setProject(news.project);
    await reloadTimeline();
    view.reloadMask();
    settled(state.frame);
  } else if (news.kind === "frame") {
    setFrame(news);
    if (following && !playback.isPlaying()) move(news.frame, true);
    else if (news.frame === state.frame) view.reloadMask();
    timeline.draw();
  } else if (news.kind === "job") {
    await jobNews(news);
  } else if (news.kind === "thumb") {
    timeline.fetchThumb(news.frame);
  }
}

function setProject(told) {
  state.project = { ...state.project, ...told };
  const ids = told.objects.map((one) => one.id);
  if (!ids.includes(state.object)) state.object = ids[0] ?? null;
  view.repaint();
  refresh();
}

async function reloadTimeline() {
  const mine = ++timelines;
  try {
    const told = await get("/api/timeline");
    if (mine !== timelines) return; // a newer one is on its way
    setTimeline(told);
    refresh();
  } catch (error) {
    failed(error);
  }
}

async function jobNews(job) {
  const runs = job.state === "runs" || job.state === "begins";
  if (job.state === "begins") {
    following = job.what === "track" && by("follow").checked;
    by("progress").value = 0;
  }
  state.job = runs ? job.what : null;
  by("stop").disabled = by("progress").hidden = !runs;
  for (const id of Object.values(TRACKED)) by(id).disabled = runs;
  by("pace").textContent = "";
  if (job.state === "runs") {
    by("progress").value = job.total ? job.done / job.total : 0;
    const left = job.left >= 90 ? `${Math.round(job.left / 60)} min` : `${Math.round(job.left)} s`;
    by("pace").textContent = `${job.rate.toFixed(1)} frames/s, ${left} left`;
  }
  if (job.what === "export") panel.exportNews(job);
  if (job.state === "failed") say(job.hint ? `${job.error} — ${job.hint}` : job.error, true);
  if (job.state === "stopped") say(job.why);
  if (job.state === "done" && job.what === "track") {
    if (job.came.length) {
      const [id, frame] = job.came[0];
      const name = state.project.objects.find((one) => one.id === id)?.name;
      say(`${name} has come into the locked frame ${frame}: G there, if it is gone`, true);
    } else if (job.alike !== null) say(`from frame ${job.alike} on the masks are what they were`);
    else say(job.frames ? `${job.frames} frames tracked in ${job.seconds} s` : "nothing was out of date");
  }
  if (!runs && job.state !== "idle") {
    await reloadTimeline();
    if (state.project) move(state.frame, false);
  }
}

async function load() {
  try {
    const told = await get("/api/project");
    state.times = new Float32Array(await bytes("/api/times"));
    const first = !state.project;
    setTimeline(await get("/api/timeline"));
    setProject(told);
    by("title").textContent = told.video;
    document.title = `${told.video} – livos`;
    const length = clock(state.times[told.frames - 1]);
    by("of").textContent = `of ${told.frames - 1}, ${length}; ${told.width}×${told.height}, ${told.rate.toFixed(2)} fps`;
    if (told.warnings.length) say(told.warnings.join("; "));
    else if (!connected && !first) say("");
    await jobNews(told.job);
    const from = new URLSearchParams(location.hash.slice(1)).get("frame");
    seek(first ? Number(from) || told.keys[0] || 0 : state.frame);
    following = state.job === "track" && by("follow").checked;
  } catch (error) {
    failed(error);
  }
}

// Keys and buttons

const PLAIN = {
  k: play, n: () => jump(1), p: () => jump(-1), v: () => pickTool("click"), b: () => pickTool("brush"),
  e: () => pickTool("eraser"), a: addObject, t: () => track("forward"), u: () => track("update"),
  l: lock, g: gone, i: () => edge(true), o: () => edge(false), x: panel.openExport, h: hideChosen,
  m: () => { state.shown = !state.shown; view.draw(); },
  "?": () => by("help-dialog").showModal(), 0: view.fit, "+": () => view.zoomAt(1.25),
  "=": () => view.zoomAt(1.25), "-": () => view.zoomAt(0.8),
  "[": () => size(-3), "]": () => size(3), Delete: removeKey, Backspace: removeKey,
  ",": () => jumpTo(state.project.keys, -1, "no key mask there"),
  ".": () => jumpTo(state.project.keys, 1, "no key mask there"),
  Home: () => seek(0), End: () => seek(state.project.frames - 1),
  Escape: () => state.job && act(() => post("stop")),
};
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function size(more) {
  state.brush = Math.min(100, Math.max(1, state.brush + more));
  by("brush-size").value = state.brush;
  view.draw();
}

function typing(event) {
  const { tagName, type, readOnly } = event.target;
  return tagName === "INPUT" && ["text", ""].includes(type ?? "") && !readOnly;
}

// What takes Enter and Space for itself.
function isButton({ tagName, type }) {
  return tagName === "BUTTON" || type === "checkbox" || type === "color";
}

function onKey(event) {
  if (!state.project || document.querySelector("dialog[open]") || typing(event)) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const control = event.ctrlKey || event.metaKey;
  const arrow = ARROWS[key];
  const button = isButton(event.target);
  const removes = key === "Delete" || key === "Backspace";
  if (removes && event.target.tagName === "INPUT") return; // meant for a name, not for masks
  let done = true;
  if (control && key === "z") (event.shiftKey ? redo : undo)();
  else if (control && key === "y") redo();
  else if (control && arrow) {
    const far = event.shiftKey ? 2 : 16;
    view.moveCross(arrow[0] * far, arrow[1] * far);
  } else if (control || (event.altKey && key !== "Alt")) done = false;
  else if (arrow && event.target.type !== "range") {
    const step = (arrow[0] || -arrow[1]) * (event.shiftKey ? 10 : 1);
    seek(state.frame + step, event.repeat);
  } else if (key === "Enter" && !button) view.clickCross(!event.shiftKey);
  else if (key === " " && !button) view.holdSpace();
  else if (event.shiftKey && key === "t") track("all");
  else if (event.shiftKey && key === "b") track("backward");
  else if (/^[1-9]$/.test(key)) {
    const one = state.project.objects[Number(key) - 1];
    if (one) choose(one.id);
  } else if (PLAIN[key]) PLAIN[key]();
  else done = false;
  if (done) event.preventDefault();
}

function wire() {
  document.addEventListener("keydown", onKey);
  document.addEventListener("keyup", (event) => {
    const tapped = event.key === " " && view.letGoOfSpace();
    if (!state.project || typing(event) || document.querySelector("dialog[open]")) return;
    if (tapped && !isButton(event.target)) play();
    if (event.key in ARROWS && !event.ctrlKey && event.target.type !== "range") move(state.frame, false);
  });
  for (const tool of ["click", "brush", "eraser"]) by(`tool-${tool}`).onclick = () => pickTool(tool);
  window.addEventListener("blur", view.letGoOfSpace);
  by("follow").onchange = () => (following = by("follow").checked && state.job === "track");
  by("brush-size").oninput = (event) => { state.brush = Number(event.target.value); view.draw(); };
  for (const [what, id] of Object.entries(TRACKED)) by(id).onclick = () => track(what);
  const buttons = {
    undo, redo, add: addObject, lock, gone, "remove-key": removeKey, play, in: () => edge(true),
    out: () => edge(false),
    whole: () => change("set_range", { first: 0, end: state.project.frames }), stop: () => act(() => post("stop")),
    "doubt-next": () => jump(1), "doubt-previous": () => jump(-1),
  };
  for (const [id, what] of Object.entries(buttons)) by(id).onclick = what;
  fields.begin(seek, () => move(state.frame, false), say);
  const stage = by("stage");
  stage.addEventListener("dragover", (event) => event.preventDefault());
  stage.addEventListener("drop", (event) => {
    event.preventDefault();
    const file = event.dataTransfer.files[0];
    if (file) act(async () => say((await upload(state.frame, file)).said ?? `${file.name} is the mask here`));
  });
  window.addEventListener("hashchange", () => {
    const frame = Number(new URLSearchParams(location.hash.slice(1)).get("frame"));
    if (state.project && Number.isInteger(frame)) seek(frame);
  });
}

view.begin({
  click: (frame, x, y, on) => mark("click", frame, { x, y, on }),
  box: (frame, [x0, y0, x1, y1]) => x1 > x0 && y1 > y0 && mark("box", frame, { x0, y0, x1, y1 }),
  stroke: (frame, on, radius, path) => mark("stroke", frame, { on, radius, path }),
  settled,
  failed,
});
panel.begin({
  choose,
  change: (object, fields) => change("edit_object", { object, ...fields }),
  remove: (one) => change("edit_object", { object: one.id, remove: true }, () => say(`${one.name} is removed; Ctrl+Z brings it back`)),
});
timeline.begin(seek);
wire();
listen(heard);
