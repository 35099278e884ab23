// Playing at the video's own pace; frames whose pictures come too late are left out.

import { state } from "./state.js";

let timer = 0, began = 0, start = 0;

export const isPlaying = () => timer !== 0;

// Go on from the frame that is shown: at the beginning, and after a jump while it plays.
export function fromHere() {
  began = performance.now();
  start = state.times[state.frame];
}

export function stop() {
  clearInterval(timer);
  timer = 0;
}

export function begin(show, ended) {
  fromHere();
  timer = setInterval(() => {
    const time = start + (performance.now() - began) / 1000;
    const last = state.project.frames - 1;
    let next = state.frame;
    while (next < last && state.times[next + 1] <= time) next++;
    if (next !== state.frame) show(next);
    if (next >= last) ended();
  }, 20);
}
