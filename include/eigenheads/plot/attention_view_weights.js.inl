// SPDX-License-Identifier: MIT
// The script of the pages of attention_view.hpp, first part: it reads the model (a JSON object) and
// each head's weights (base64) from elements of the page, decodes a head when it is first seen, and
// turns weights into colours.
R"js(
const byId = id => document.getElementById(id);
const make = (tag, text = '', attributes = {}) => {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const name in attributes) element.setAttribute(name, attributes[name]);
  return element;
};
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

const model = JSON.parse(byId('model').textContent);
const layers = model.layers;
const dark = matchMedia('(prefers-color-scheme: dark)');
const calm = matchMedia('(prefers-reduced-motion: reduce)');
const coarse = matchMedia('(pointer: coarse)');
const state = {
  layer: -1, head: 0, scale: model.shared ? 'all' : 'each', shading: 'linear',
  cell: null, token: null, zoom: 1,
};
const current = () => layers[state.layer];

// ---- Weights

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; ++i) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// Q pairs [begin, end) of 32 bits, then the weights between them row by row; the others are 0.
function decoded(l, h) {
  const { queries: Q, keys: K, bytes } = layers[l];
  const view = new DataView(bytesOf(byId('weights-' + l + '-' + h).textContent).buffer);
  const values = bytes === 4 ? new Float32Array(Q * K) : new Float64Array(Q * K);
  let low = 0, high = 0;
  for (let q = 0, at = 8 * Q; q < Q; ++q) {
    const end = q * K + view.getUint32(8 * q + 4, true);
    for (let i = q * K + view.getUint32(8 * q, true); i < end; ++i, at += bytes) {
      const x = bytes === 4 ? view.getFloat32(at, true) : view.getFloat64(at, true);
      values[i] = x;
      if (Number.isFinite(x)) low = Math.min(low, x), high = Math.max(high, x);
    }
  }
  low = Math.max(low, -1e300);
  high = Math.min(high, 1e300);
  return { values, low, high: high > low ? high : 1, hasNaN: values.some(Number.isNaN) };
}

const recent = new Map();  // the heads that were looked at last, oldest first
function weightsOf(l, h) {
  const key = l + '-' + h;
  const found = recent.get(key) || decoded(l, h);
  recent.delete(key);
  recent.set(key, found);
  if (recent.size > 8) recent.delete(recent.keys().next().value);
  return found;
}

// Four significant digits.
function valueText(x) {
  if (Number.isNaN(x)) return 'NaN';
  if (!Number.isFinite(x)) return x > 0 ? 'inf' : '-inf';
  return String(Number(x.toPrecision(4)));
}

// ---- Colours

const palettes = model.palettes.map(bytesOf);
const palette = () => palettes[dark.matches ? 1 : 0];
const colorOf = level => Array.from(palette().subarray(3 * level, 3 * level + 3)).join(' ');
const nanLevel = 255;

function scaleOf(weights) {
  return state.scale === 'each' ? [weights.low, weights.high] : [model.minimum, model.maximum];
}
function levelOf(x, [low, high]) {
  if (Number.isNaN(x)) return nanLevel;
  const part = (clamp(x, low, high) - low) / (high - low);
  return Math.round((state.shading === 'root' ? Math.sqrt(part) : part) * 254);
}

// Pixel i shows the cells from[i] <= c < to[i]: the one that it lies in, or all that it covers.
function spans(pixels, start, step, count) {
  const from = new Int32Array(pixels), to = new Int32Array(pixels);
  for (let i = 0; i < pixels; ++i) {
    from[i] = clamp(Math.floor(start + i * step + 1e-6), 0, count - 1);
    to[i] = clamp(Math.floor(start + (i + 1) * step + 1e-6), from[i] + 1, count);
  }
  // What rounding to whole pixels left of the last cells.
  if (step > 1 && start + (pixels + .5) * step > count - 1e-6) to[pixels - 1] = count;
  return { from, to };
}

// A pixel that covers many cells has the colour of the greatest, or of NaN.
function raster(context, x, y, rows, columns, { values }, K, scale) {
  const width = columns.from.length, height = rows.from.length, colors = palette();
  if (width <= 0 || height <= 0) return;
  const image = context.createImageData(width, height), data = image.data, stride = 4 * width;
  for (let j = 0; j < height; ++j) {
    if (j > 0 && rows.from[j] === rows.from[j - 1] && rows.to[j] === rows.to[j - 1]) {
      data.copyWithin(j * stride, (j - 1) * stride, j * stride);
      continue;
    }
    for (let i = 0, at = j * stride; i < width; ++i, at += 4) {
      let level = 0;
      for (let q = rows.from[j]; q < rows.to[j]; ++q)
        for (let k = columns.from[i]; k < columns.to[i]; ++k)
          level = Math.max(level, levelOf(values[q * K + k], scale));
      data[at] = colors[3 * level];
      data[at + 1] = colors[3 * level + 1];
      data[at + 2] = colors[3 * level + 2];
      data[at + 3] = 255;
    }
  }
  context.putImageData(image, x, y);
}

// The canvas as large as its scroller, at the resolution of the screen.
function prepared(canvas, width, height) {
  const ratio = devicePixelRatio;
  const w = Math.round(width * ratio), h = Math.round(height * ratio);
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.width = width + 'px';
    canvas.style.height = height + 'px';
  }
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

const styleOf = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const fontOf = (weight, size = '12px') =>
  weight + ' ' + size + ' ' + getComputedStyle(document.body).fontFamily;

// Not innerHeight: on phones that changes while the address bar slides away.
const windowHeight = () => document.documentElement.clientHeight;
const tallest = () => Math.max(300, Math.floor(windowHeight() * .74));

// Many events, one drawing a frame.
function oncePerFrame(action) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => (waiting = false, action()));
  };
}
)js"
