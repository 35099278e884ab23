// The picture: frame and masks, zoom and pan, and what the pointer does on it.

import { bytes, picture } from "./api.js";
import { decode, paint } from "./masks.js";
import { state } from "./state.js";

const SETTLED = 140; // ms without a new frame, after which the exact one is fetched
const canvas = document.getElementById("view");
const context = canvas.getContext("2d");
const overlay = document.createElement("canvas");
const SAME = 4; // pixels of the screen: a shorter drag is a click

let bitmap = null, bitmapFrame = -1, exact = false;
let mask = null, maskFrame = -1;
let later = null;
let marks = {}, marksFrame = -1;
let zoom = 1, panX = 0, panY = 0; // of the fitted picture
let drag = null, pointer = null, spaceHeld = false, panned = false;
let cross = null; // the keyboard's cursor, in the frame's pixels
let loading = null, settle = 0;
let asked = 0, shownMask = 0; // masks that were asked for, and the newest of those that came
let acts = {};

export function begin(handlers) {
  acts = handlers;
  new ResizeObserver(() => draw()).observe(canvas);
  canvas.addEventListener("pointerdown", down);
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", () => { drag = null; draw(); });
  canvas.addEventListener("pointerleave", () => { pointer = null; draw(); });
  canvas.addEventListener("wheel", wheel, { passive: false });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", (event) => event.preventDefault());
}

// How the fitted frame lies on the canvas, in pixels of the canvas.
function place() {
  const { width, height, aspect } = state.project;
  const shownWidth = width * aspect;
  const fit = Math.min(canvas.width / shownWidth, canvas.height / height) * zoom;
  const x = (canvas.width - shownWidth * fit) / 2 + panX;
  const y = (canvas.height - height * fit) / 2 + panY;
  return { x, y, across: fit * aspect, down: fit };
}

function toFrame(event) {
  const ratio = canvas.width / canvas.clientWidth;
  const at = place();
  const box = canvas.getBoundingClientRect();
  return [
    ((event.clientX - box.left) * ratio - at.x) / at.across,
    ((event.clientY - box.top) * ratio - at.y) / at.down,
  ];
}

function inside([x, y]) {
  return x >= 0 && y >= 0 && x <= state.project.width && y <= state.project.height;
}

export function draw() {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, height);
  if (!state.project || !bitmap) return;
  const at = place();
  const size = [state.project.width * at.across, state.project.height * at.down];
  context.imageSmoothingEnabled = at.down < 2;
  context.drawImage(bitmap, at.x, at.y, ...size);
  if (state.shown && mask && maskFrame === bitmapFrame) {
    context.imageSmoothingEnabled = false;
    context.drawImage(overlay, at.x, at.y, ...size);
  }
  if (bitmapFrame === state.frame) drawMarks(at, ratio);
  drawPointer(at, ratio);
}

function drawMarks(at, ratio) {
  const own = marksFrame === state.frame ? marks[state.object] : null;
  if (!own || !state.shown) return;
  for (const [x, y, on] of own.points) {
    context.beginPath();
    context.arc(at.x + x * at.across, at.y + y * at.down, 5 * ratio, 0, 7);
    context.fillStyle = on ? "#22c55e" : "#ef4444";
    context.fill();
    context.lineWidth = 1.5 * ratio;
    context.strokeStyle = "#fff";
    context.stroke();
  }
  if (own.box) drawBox(at, ratio, own.box);
}

function drawBox(at, ratio, [x0, y0, x1, y1]) {
  context.setLineDash([6 * ratio, 4 * ratio]);
  context.lineWidth = 2 * ratio;
  context.strokeStyle = "#fff";
  context.strokeRect(at.x + x0 * at.across, at.y + y0 * at.down, (x1 - x0) * at.across, (y1 - y0) * at.down);
  context.setLineDash([]);
}

function drawPointer(at, ratio) {
  if (drag?.kind === "box") drawBox(at, ratio, sorted(drag.from, drag.to));
  if (drag?.kind === "stroke") {
    context.beginPath();
    for (const [x, y] of drag.path) context.lineTo(at.x + x * at.across, at.y + y * at.down);
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = 2 * radius() * at.down;
    context.strokeStyle = state.tool === "brush" ? "rgb(34 197 94 / 55%)" : "rgb(239 68 68 / 55%)";
    context.stroke();
  }
  if (state.tool !== "click" && pointer) {
    context.beginPath();
    context.arc(at.x + pointer[0] * at.across, at.y + pointer[1] * at.down, radius() * at.down, 0, 7);
    context.lineWidth = ratio;
    context.strokeStyle = "#fff";
    context.stroke();
  }
  if (cross) {
    const [x, y] = [at.x + cross[0] * at.across, at.y + cross[1] * at.down];
    context.lineWidth = 2 * ratio;
    context.strokeStyle = "#ffd60a";
    context.beginPath();
    context.moveTo(x - 14 * ratio, y); context.lineTo(x + 14 * ratio, y);
    context.moveTo(x, y - 14 * ratio); context.lineTo(x, y + 14 * ratio);
    context.stroke();
  }
}

// Of the brush, in the frame's pixels: the slider is in thousandths of the shorter side.
function radius() {
  return Math.max(0.5, (state.brush / 500) * Math.min(state.project.width, state.project.height));
}

function sorted([x0, y0], [x1, y1]) {
  const limit = (v, most) => Math.min(Math.max(v, 0), most);
  const { width, height } = state.project;
  return [
    limit(Math.min(x0, x1), width), limit(Math.min(y0, y1), height),
    limit(Math.max(x0, x1), width), limit(Math.max(y0, y1), height),
  ];
}

function down(event) {
  if (!state.project || drag) return;
  canvas.focus({ preventScroll: true });
  canvas.setPointerCapture(event.pointerId);
  const from = toFrame(event);
  const screen = [event.clientX, event.clientY];
  if (spaceHeld || event.button === 1) {
    drag = { kind: "pan", screen, pan: [panX, panY] };
  } else if (state.tool === "click") {
    drag = { kind: "press", from, to: from, screen, on: event.button === 0 && !event.altKey };
  } else if (event.button === 0) {
    drag = { kind: "stroke", path: [from] };
  }
  if (drag) drag.frame = bitmapFrame; // what is seen, wherever tracking is
  event.preventDefault();
  draw();
}

function move(event) {
  if (!state.project) return;
  pointer = toFrame(event);
  if (drag?.kind === "pan") {
    const ratio = canvas.width / canvas.clientWidth;
    panX = drag.pan[0] + (event.clientX - drag.screen[0]) * ratio;
    panY = drag.pan[1] + (event.clientY - drag.screen[1]) * ratio;
  } else if (drag?.kind === "stroke") {
    const [x, y] = drag.path[drag.path.length - 1];
    if (Math.hypot(pointer[0] - x, pointer[1] - y) > radius() / 4) drag.path.push(pointer);
  } else if (drag) {
    drag.to = pointer;
    const far = Math.hypot(event.clientX - drag.screen[0], event.clientY - drag.screen[1]) > SAME;
    if (far && drag.on) drag.kind = "box";
  }
  draw();
}

function up() {
  const done = drag;
  drag = null;
  if (done?.kind === "press" && inside(done.from)) acts.click(done.frame, ...done.from, done.on);
  if (done?.kind === "box") acts.box(done.frame, sorted(done.from, done.to));
  if (done?.kind === "stroke") acts.stroke(done.frame, state.tool === "brush", radius(), done.path);
  if (done?.kind === "pan") panned = true;
  draw();
}

function wheel(event) {
  event.preventDefault();
  if (state.project) zoomAt(Math.exp(-event.deltaY * 0.0015), event);
}

export function zoomAt(factor, event = null) {
  const ratio = canvas.width / canvas.clientWidth;
  const box = canvas.getBoundingClientRect();
  const x = event ? (event.clientX - box.left) * ratio : canvas.width / 2;
  const y = event ? (event.clientY - box.top) * ratio : canvas.height / 2;
  const before = place();
  const fx = (x - before.x) / before.across, fy = (y - before.y) / before.down;
  zoom = Math.min(40, Math.max(1, zoom * factor));
  if (zoom === 1) panX = panY = 0;
  const after = place();
  if (zoom > 1) {
    panX += x - (after.x + fx * after.across);
    panY += y - (after.y + fy * after.down);
  }
  draw();
  settleSoon();
}

export function fit() {
  zoom = 1;
  panX = panY = 0;
  draw();
}

export function holdSpace() {
  if (!spaceHeld) panned = false;
  spaceHeld = true;
  canvas.style.cursor = "grab";
}

// Whether Space was held, and the picture not moved meanwhile.
export function letGoOfSpace() {
  const tapped = spaceHeld && !panned;
  spaceHeld = false;
  canvas.style.cursor = "";
  return tapped;
}

// The keyboard's cursor, moved by pixels of the screen; null puts it away.
export function moveCross(dx, dy) {
  const at = place();
  const { width, height } = state.project;
  const [x, y] = cross ?? [width / 2, height / 2];
  const limit = (v, most) => Math.min(Math.max(v, 0), most);
  cross = [limit(x + dx / at.across, width), limit(y + dy / at.down, height)];
  draw();
}

// The first time it is only shown: nobody clicks where no cursor is seen.
export function clickCross(on) {
  if (cross) acts.click(bitmapFrame, ...cross, on);
  else moveCross(0, 0);
}

export function setMarks(told, frame) {
  marks = told;
  marksFrame = frame;
  draw();
}

// How many pixels of the frame's width are worth fetching.
function wanted() {
  const { width } = state.project;
  return Math.min(width, Math.ceil((canvas.width * zoom) / 320) * 320);
}

function settleSoon() {
  clearTimeout(settle);
  settle = setTimeout(() => loadExact(), SETTLED);
}

// Show a frame: at once what is there, the exact one when the user rests.
export function show(frame, scrubbing) {
  if (scrubbing) {
    loadSmall(frame);
    settleSoon();
  } else {
    clearTimeout(settle);
    loadExact();
  }
}

// One small picture at a time: the newest frame is asked for when the one before has come.
let smallBusy = false;
async function loadSmall(frame) {
  if (smallBusy) return;
  smallBusy = true;
  try {
    const [image, ids] = await Promise.all([picture(`/api/small/${frame}`), fetchMask(frame)]);
    if (image && !(exact && bitmapFrame === state.frame)) {
      put(image, frame, false);
      putMask(ids, frame);
    } else {
      image?.close();
    }
  } catch (error) {
    acts.failed(error);
  } finally {
    smallBusy = false;
    if (frame !== state.frame) loadSmall(state.frame);
  }
}

async function loadExact() {
  loading?.abort();
  const mine = (loading = new AbortController());
  const frame = state.frame;
  try {
    const [image, ids] = await Promise.all([
      picture(`/api/frame/${frame}?w=${wanted()}`, mine.signal), fetchMask(frame),
    ]);
    if (frame !== state.frame || mine.signal.aborted) {
      image.close();
      return;
    }
    put(image, frame, true);
    putMask(ids, frame);
    acts.settled(frame);
  } catch (error) {
    if (error.name !== "AbortError") acts.failed(error);
  }
}

// The masks of the frame that is shown have changed.
export async function reloadMask() {
  const frame = state.frame;
  try {
    putMask(await fetchMask(frame), frame);
  } catch (error) {
    acts.failed(error);
  }
}

async function fetchMask(frame) {
  const number = ++asked;
  const ids = decode(await bytes(`/api/mask/${frame}?w=${wanted()}`));
  return { number, ...ids };
}

function put(image, frame, isExact) {
  bitmap?.close();
  bitmap = image;
  bitmapFrame = frame;
  exact = isExact;
  canvas.dataset.frame = frame;
  canvas.dataset.exact = isExact;
  draw();
}

// A mask that was asked for before one that is shown is older than it.
function putMask(ids, frame) {
  if (later?.frame === frame && later.ids.number > ids.number) ids = later.ids;
  if (ids.number < shownMask && maskFrame === frame) return;
  if (frame !== bitmapFrame && maskFrame === bitmapFrame) {
    later = { frame, ids }; // its picture is on its way
    return;
  }
  shownMask = ids.number;
  mask = ids;
  maskFrame = frame;
  repaint();
  canvas.dataset.mask = frame;
}

export function repaint() {
  if (mask) paint(mask, state.project.objects, overlay);
  draw();
}
