// A map of ids from its run lengths, and its picture in the objects' colours.

export function decode(buffer) {
  const words = new Uint32Array(buffer);
  const [width, height] = words;
  const ids = new Uint8Array(width * height);
  let place = 0;
  for (let n = 2; n < words.length; n++) {
    const length = words[n] >>> 8;
    const id = words[n] & 255;
    if (id) ids.fill(id, place, place + length);
    place += length;
  }
  return { width, height, ids };
}

// Tinted inside, opaque along the border.
export function paint(mask, objects, canvas) {
  const { width, height, ids } = mask;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const out = new Uint32Array(image.data.buffer);
  const inner = new Uint32Array(256), outer = new Uint32Array(256);
  for (const one of objects) {
    if (!one.visible) continue;
    const number = parseInt(one.colour.slice(1), 16);
    const red = number >> 16, green = (number >> 8) & 255, blue = number & 255;
    const rgb = red | (green << 8) | (blue << 16);
    inner[one.id] = (rgb | (110 << 24)) >>> 0;
    const light = (c) => Math.min(255, c + 90);
    outer[one.id] = (light(red) | (light(green) << 8) | (light(blue) << 16) | (255 << 24)) >>> 0;
  }
  for (let y = 0, n = 0; y < height; y++) {
    for (let x = 0; x < width; x++, n++) {
      const id = ids[n];
      if (!id) continue;
      const edge =
        (x > 0 && ids[n - 1] !== id) || (x < width - 1 && ids[n + 1] !== id) ||
        (y > 0 && ids[n - width] !== id) || (y < height - 1 && ids[n + width] !== id);
      out[n] = edge ? outer[id] : inner[id];
    }
  }
  context.putImageData(image, 0, 0);
}
