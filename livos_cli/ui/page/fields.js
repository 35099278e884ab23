// The two fields that say where one is: frame and time.

import { clock, frameAt, state } from "./state.js";

const by = (id) => document.getElementById(id);

// Where somebody types, nothing is overwritten.
export function fill() {
  if (document.activeElement !== by("frame")) by("frame").value = state.frame;
  if (document.activeElement !== by("time")) by("time").value = clock(state.times[state.frame] ?? 0);
}

export function begin(seek, stay, say) {
  wire("frame", (text) => (/^\d+f?$/.test(text.trim()) ? parseInt(text, 10) : NaN), "a frame is a whole number, from 0");
  wire("time", frameAt, "a time is like 12.5, 1:02.5 or 300f");

  function wire(id, read, wrong) {
    let before = "";
    by(id).onfocus = () => (before = by(id).value);
    by(id).onkeydown = (event) => {
      if (event.key === "Escape") by(id).value = before;
      if (event.key === "Enter" || event.key === "Escape") by("view").focus();
    };
    by(id).onblur = () => {
      if (!state.project) return;
      const text = by(id).value;
      if (text === before || !text.trim()) {
        fill();
        return;
      }
      const frame = read(text);
      const last = state.project.frames - 1;
      if (Number.isNaN(frame)) say(wrong, true);
      else if (frame > last) say(`the last frame is ${last}, at ${clock(state.times[last])}`, true);
      else say("");
      if (frame !== state.frame && !Number.isNaN(frame)) seek(frame);
      else stay();
    };
  }
}
