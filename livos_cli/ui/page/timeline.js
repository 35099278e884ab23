// The timeline: thumbnails, what is tracked, key masks, and per object its area and certainty.

import { picture } from "./api.js";
import { state } from "./state.js";

const THUMBS = 34, BAR = 14, GAP = 4, LANES = 66; // heights in pixels of the page
const canvas = document.getElementById("timeline");
const context = canvas.getContext("2d");
const thumbs = new Map(); // frame -> bitmap, null while it is waited for
let asked = false;
let go = () => {};

export function begin(seek) {
  go = seek;
  new ResizeObserver(() => draw()).observe(canvas);
  let dragging = false;
  const at = (event) => {
    const share = event.offsetX / canvas.clientWidth;
    return Math.min(state.project.frames - 1, Math.max(0, Math.floor(share * state.project.frames)));
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!state.project) return;
    dragging = true;
    canvas.setPointerCapture(event.pointerId);
    go(at(event), true);
  });
  canvas.addEventListener("pointermove", (event) => dragging && go(at(event), true));
  canvas.addEventListener("pointerup", () => (dragging = false));
  canvas.addEventListener("pointercancel", () => (dragging = false));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  return { lane: of("lane"), quiet: of("quiet"), main: of("main"), bad: of("bad"), text: of("text"), good: of("good") };
}

export function draw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    if (state.project) paint();
  });
}

function paint() {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const colour = colours();
  const count = state.project.frames;
  const toX = (frame) => (frame / count) * width;
  paintThumbs(width, count, colour);
  paintBar(width, count, toX, colour);
  paintLanes(width, count, colour);
  paintKeys(toX, count, width, colour);
  const x = toX(state.frame + 0.5);
  context.fillStyle = colour.text;
  context.fillRect(x - 1, 0, 2, height);
  canvas.setAttribute("aria-valuemax", count - 1);
  canvas.setAttribute("aria-valuenow", state.frame);
}

function paintThumbs(width, count, colour) {
  const { aspect } = state.project;
  const each = Math.max(24, (state.project.width * aspect * THUMBS) / state.project.height);
  const places = Math.max(1, Math.floor(width / each));
  context.fillStyle = colour.lane;
  context.fillRect(0, 0, width, THUMBS);
  const wanted = new Set();
  for (let n = 0; n < places; n++) {
    const frame = Math.min(count - 1, Math.floor(((n + 0.5) / places) * count));
    wanted.add(frame);
    const image = thumbs.get(frame);
    if (image) context.drawImage(image, (n + 0.5) * (width / places) - each / 2, 0, each, THUMBS);
    if (image === undefined) fetchThumb(frame);
  }
  for (const [frame, image] of thumbs) {
    if (wanted.has(frame)) continue;
    image?.close();
    thumbs.delete(frame);
  }
}

export async function fetchThumb(frame) {
  if (thumbs.get(frame)) return;
  thumbs.set(frame, null);
  const image = await picture(`/api/thumb/${frame}`).catch(() => null);
  if (!image) return;
  if (thumbs.get(frame) === null) {
    thumbs.set(frame, image);
    draw();
  } else {
    image.close(); // another has come, or nobody wants it any more
  }
}

// A column is as wide as a pixel or as a frame; of many frames in one, the worst is shown.
function columns(width, count) {
  const many = Math.max(1, Math.min(count, Math.floor(width)));
  return { many, begin: (n) => Math.floor((n * count) / many), wide: width / many };
}

function paintBar(width, count, toX, colour) {
  const top = THUMBS + GAP;
  context.fillStyle = colour.lane;
  context.fillRect(0, top, width, BAR);
  const { many, begin, wide } = columns(width, count);
  for (let n = 0; n < many; n++) {
    let least = 2;
    for (let frame = begin(n); frame < Math.max(begin(n) + 1, begin(n + 1)); frame++) {
      least = Math.min(least, state.status[frame] ?? 0);
    }
    if (!least) continue;
    context.globalAlpha = least === 2 ? 1 : 0.35;
    context.fillStyle = colour.good;
    context.fillRect(n * wide, top + BAR / 2 - 2, wide + 0.5, 4);
  }
  context.globalAlpha = 1;
  const [first, end] = state.project.range;
  context.fillStyle = "rgb(128 128 128 / 35%)";
  const height = canvas.clientHeight;
  context.fillRect(0, 0, toX(first), height);
  context.fillRect(toX(end), 0, width - toX(end), height);
}

function paintLanes(width, count, colour) {
  const shown = state.project.objects.filter((one) => one.visible && state.areas.has(one.id));
  if (!shown.length) return;
  const lane = Math.min(26, LANES / shown.length);
  const { many, begin, wide } = columns(width, count);
  shown.forEach((one, row) => {
    const top = THUMBS + BAR + 2 * GAP + row * lane;
    const areas = state.areas.get(one.id), sure = state.certainty.get(one.id);
    let largest = 1;
    for (const area of areas) largest = Math.max(largest, area);
    context.fillStyle = colour.lane;
    context.fillRect(0, top, width, lane - 2);
    for (let n = 0; n < many; n++) {
      let area = 0, least = 2;
      for (let frame = begin(n); frame < Math.max(begin(n) + 1, begin(n + 1)); frame++) {
        area = Math.max(area, areas[frame]);
        if (sure && sure[frame] >= 0) least = Math.min(least, sure[frame]);
      }
      const tall = Math.sqrt(area / largest) * (lane - 4);
      const doubtful = least < state.project.doubtful;
      context.fillStyle = one.colour;
      context.globalAlpha = doubtful ? 0.45 : 1;
      context.fillRect(n * wide, top + lane - 2 - tall, wide + 0.5, tall);
      context.globalAlpha = 1;
      if (!doubtful) continue;
      context.fillStyle = colour.bad;
      context.fillRect(n * wide, top, wide + 0.5, 5);
    }
  });
}

function paintKeys(toX, count, width, colour) {
  const y = THUMBS + GAP + BAR / 2;
  const locked = new Set(state.project.locked);
  for (const frame of state.project.keys) {
    const x = toX(frame + 0.5);
    context.beginPath();
    context.moveTo(x, y - 7);
    context.lineTo(x + 6, y);
    context.lineTo(x, y + 7);
    context.lineTo(x - 6, y);
    context.closePath();
    context.fillStyle = locked.has(frame) ? colour.text : colour.main;
    context.fill();
  }
  context.fillStyle = colour.bad;
  for (const [, frame] of state.project.drops) {
    const x = toX(frame + 0.5);
    context.fillRect(x - 1, y - 7, 2, 14);
    context.fillRect(x - 5, y - 1, 10, 2);
  }
}
