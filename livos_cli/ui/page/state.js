// What the page knows: the project, the timeline, and where the user is.

export const state = {
  project: null,
  times: new Float32Array(0),
  status: new Uint8Array(0), // 0 nothing, 1 out of date, 2 up to date
  areas: new Map(), // id -> pixels of each frame
  certainty: new Map(), // id -> how likely its mask is right; -1: nothing known
  frame: 0,
  object: null,
  tool: "click",
  brush: 12,
  job: null,
  shown: true, // masks
};

export function setTimeline(told) {
  state.status = Uint8Array.from(told.status, Number);
  const take = (rows, Kind) =>
    new Map(Object.entries(rows).map(([id, row]) => [Number(id), Kind.from(row)]));
  state.areas = take(told.areas, Float64Array);
  state.certainty = take(told.certainty, Float32Array);
}

export function setFrame(news) {
  const count = state.project.frames;
  state.status[news.frame] = 2;
  for (const row of state.areas.values()) row[news.frame] = 0;
  for (const row of state.certainty.values()) row[news.frame] = -1;
  const put = (rows, Kind, told, empty) => {
    for (const [text, value] of Object.entries(told)) {
      const id = Number(text);
      if (!rows.has(id)) rows.set(id, new Kind(count).fill(empty));
      rows.get(id)[news.frame] = value;
    }
  };
  put(state.areas, Float64Array, news.areas, 0);
  put(state.certainty, Float32Array, news.certainty, -1);
}

export function certaintyAt(frame) {
  let least = null;
  for (const [id, row] of state.certainty) {
    if (row[frame] >= 0 && (least === null || row[frame] < least.value)) {
      least = { id, value: row[frame] };
    }
  }
  return least;
}

// Stretches of doubtful frames: three or more, but for two sure ones between.
export function doubts() {
  const found = [];
  let begin = -1, last = -1;
  const close = () => {
    if (begin >= 0 && last - begin >= 2) found.push({ begin, end: last });
    begin = -1;
  };
  for (let n = 0; n < state.status.length; n++) {
    const least = state.status[n] ? certaintyAt(n) : null;
    if (least && least.value < state.project.doubtful) {
      if (begin < 0) begin = n;
      last = n;
    } else if (begin >= 0 && n - last > 2) close();
  }
  close();
  return found;
}

export function clock(seconds) {
  const tenths = Math.round(seconds * 100);
  const minutes = Math.floor(tenths / 6000);
  const rest = ((tenths % 6000) / 100).toFixed(2).padStart(5, "0");
  const hours = Math.floor(minutes / 60);
  return hours ? `${hours}:${String(minutes % 60).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

// The frame shown at a time that was typed, like 12.5, 12,5, 1:02.5, 12s or 300f; NaN for others.
export function frameAt(typed) {
  const text = typed.trim().replace(",", ".").replace(/s$/, "");
  if (/^\d+f$/.test(text)) return Number(text.slice(0, -1));
  const parts = text.split(":").map(Number);
  if (!text || parts.some((part) => !(part >= 0))) return NaN;
  const seconds = parts.reduce((sum, part) => sum * 60 + part, 0);
  let low = 0, high = state.times.length - 1;
  if (seconds > state.times[high] + 1) return high + 1; // past the end
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (state.times[middle] <= seconds + 0.0055) low = middle;
    else high = middle - 1;
  }
  return low;
}
