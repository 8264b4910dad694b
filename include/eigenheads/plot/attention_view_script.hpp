// SPDX-License-Identifier: MIT
#pragma once
// The script of the pages of attention_view.hpp, first part: weights, colours, the grid of heads
// and which of them is open. It reads the model (a JSON object) and each head's weights (base64)
// from elements of the page, and decodes a head when it is first seen.
//   An ES module: the parts in attention_view_matrix.hpp and attention_view_lines.hpp follow in the
//   same scope, then a call of start().
#include <string_view>

#include <eigenheads/version.hpp>  // EIGENHEADS_ABI

namespace eigenheads::inline EIGENHEADS_ABI::detail::plot {

inline constexpr std::string_view view_script = R"js(
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

// ---- All heads

const heads = byId('heads');
const thumbs = [];  // [layer][head], the grid's cells
const pending = new Set();
const watch = new IntersectionObserver(entries => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting) pending.add(target);
    else pending.delete(target);
  }
  drawThumbs();
}, { rootMargin: '150px' });

const drawThumbs = oncePerFrame(() => {
  const start = performance.now();
  for (const canvas of pending) {
    if (performance.now() - start > 20) return drawThumbs();
    pending.delete(canvas);
    watch.unobserve(canvas);
    drawThumb(canvas);
  }
});

function drawThumb(canvas) {
  const l = Number(canvas.dataset.layer), h = Number(canvas.dataset.head);
  const { queries: Q, keys: K } = layers[l], weights = weightsOf(l, h);
  const size = Math.round(thumbSize() * devicePixelRatio);
  canvas.width = Math.min(K, Math.max(1, Math.round(size * Math.min(1, K / Q))));
  canvas.height = Math.min(Q, Math.max(1, Math.round(size * Math.min(1, Q / K))));
  raster(canvas.getContext('2d'), 0, 0, spans(canvas.height, 0, Q / canvas.height, Q),
         spans(canvas.width, 0, K / canvas.width, K), weights, K, scaleOf(weights));
  canvas.dataset.drawn = '';
}

// As large as it takes to see all heads, within reason.
function thumbSize() {
  const most = Math.max(...layers.map(layer => layer.heads.length));
  const across = (heads.clientWidth - 150) / most - 16;
  const down = (Math.max(240, windowHeight() * .46) - 18) / layers.length - 44;
  return Math.floor(clamp(Math.min(across, down), coarse.matches ? 64 : 52, 112));
}

function redrawThumbs() {
  heads.style.setProperty('--thumb', thumbSize() + 'px');
  for (const canvas of heads.querySelectorAll('canvas')) {
    delete canvas.dataset.drawn;
    watch.unobserve(canvas);
    watch.observe(canvas);
  }
}

function makeHeads() {
  layers.forEach((layer, l) => {
    const { queries: Q, keys: K } = layer;
    const row = make('div', '', { role: 'row' });
    const name = make('div', '', { role: 'rowheader' });
    name.append(make('bdi', layer.name), make('small', Q + ' × ' + K));
    row.append(name);
    thumbs.push(layer.heads.map((head, h) => {
      const cell = make('div', '', {
        role: 'gridcell', tabindex: -1, 'aria-selected': false, title: layer.name + ', ' + head,
        'aria-label': layer.name + ', ' + head,
      });
      const frame = make('div', '', { class: 'thumb' });
      if (Q * K > 0) {
        const canvas = make('canvas', '', { 'data-layer': l, 'data-head': h, 'aria-hidden': true });
        const side = ratio => 'max(3px, var(--thumb) * ' + Math.min(1, ratio) + ')';
        canvas.style.width = side(K / Q);
        canvas.style.height = side(Q / K);
        canvas.width = canvas.height = 1;
        frame.append(canvas);
      }
      const caption = make('span');
      caption.append(make('bdi', head));
      cell.append(frame, caption);
      cell.addEventListener('click', () => openHead(l, h, true));
      cell.addEventListener('focus', () => rove(cell));
      row.append(cell);
      return cell;
    }));
    if (layer.heads.length === 0)
      row.append(make('div', 'no heads', { role: 'gridcell', class: 'quiet' }));
    heads.append(row);
  });
}

let roving = null;  // the one head that Tab reaches
function rove(cell) {
  if (roving) roving.tabIndex = -1;
  roving = cell;
  cell.tabIndex = 0;
}

heads.addEventListener('keydown', event => {
  const l = thumbs.findIndex(row => row.includes(event.target));
  if (l < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
  const h = thumbs[l].indexOf(event.target), last = thumbs[l].length - 1;
  const vertically = step => {
    let to = l + step;
    while (thumbs[to] && thumbs[to].length === 0) to += step;
    return thumbs[to] && thumbs[to][Math.min(h, thumbs[to].length - 1)];
  };
  const targets = {
    ArrowLeft: () => thumbs[l][h - 1], ArrowRight: () => thumbs[l][h + 1],
    ArrowUp: () => vertically(-1), ArrowDown: () => vertically(1),
    Home: () => thumbs[l][0], End: () => thumbs[l][last],
  };
  if (event.key === 'Enter' || event.key === ' ') openHead(l, h, true);
  else if (targets[event.key]) targets[event.key]()?.focus();
  else return;
  event.preventDefault();
});

// ---- One head

function openHead(l, h, reveal) {
  const changed = l !== state.layer, old = thumbs[state.layer]?.[state.head];
  old?.setAttribute('aria-selected', false);
  if (changed) state.zoom = 1;
  Object.assign(state, { layer: l, head: h, cell: null, token: null });
  const layer = current(), thumb = thumbs[l][h];
  thumb.setAttribute('aria-selected', true);
  rove(thumb);
  byId('name').replaceChildren(make('bdi', layer.name), ' · ', make('bdi', layer.heads[h]));
  const count = (n, one, many) => n + ' ' + (n === 1 ? one : many);
  byId('shape').textContent =
    count(layer.queries, 'query', 'queries') + ' × ' + count(layer.keys, 'key', 'keys');
  byId('previous').disabled = !neighbour(-1);
  byId('next').disabled = !neighbour(1);
  byId('matrix').setAttribute('aria-label', 'Weights of ' + layer.name + ', ' + layer.heads[h]);
  byId('matrix').setAttribute('aria-rowcount', layer.queries);
  byId('matrix').setAttribute('aria-colcount', layer.keys);
  if (changed) makeTokens();
  const hash = '#layer=' + l + '&head=' + h;
  if (reveal && location.hash !== hash) location.hash = hash;
  refresh();
  if (!reveal) return;
  thumb.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  if (byId('views').getBoundingClientRect().top > innerHeight * .72)
    byId('title').scrollIntoView({ behavior: calm.matches ? 'auto' : 'smooth' });
}

// The head before or behind, in the next layer after the last.
function neighbour(step) {
  const all = layers.flatMap((layer, l) => layer.heads.map((_, h) => [l, h]));
  const at = all.findIndex(([l, h]) => l === state.layer && h === state.head);
  return all[at + step];
}
for (const [id, step] of [['previous', -1], ['next', 1]])
  byId(id).addEventListener('click', () => openHead(...neighbour(step), true));

function followHash() {
  const [, l, h] = (/^#layer=(\d+)&head=(\d+)$/.exec(location.hash) || []).map(Number);
  if (thumbs[l]?.[h] && !(l === state.layer && h === state.head)) openHead(l, h, false);
}

// Everything that depends on the head, its scale or the colours.
function refresh() {
  const weights = weightsOf(state.layer, state.head), [low, high] = scaleOf(weights);
  const bar = byId('bar').getContext('2d');
  for (let level = 0; level < 255; ++level) {
    bar.fillStyle = 'rgb(' + colorOf(level) + ')';
    bar.fillRect(level, 0, 1, 1);
  }
  const middle = low + (high - low) * (state.shading === 'root' ? .25 : .5);
  [low, middle, high].forEach((x, i) => byId('ends').children[i].textContent = valueText(x));
  byId('nan').hidden = !weights.hasNaN;
  byId('nan').firstChild.style.background = 'rgb(' + colorOf(nanLevel) + ')';
  const line = colorOf(dark.matches ? model.darkLine : model.lightLine);
  document.documentElement.style.setProperty('--data', line);
  layOutMatrix();
  layOutLines();
}

// "3 'cat'", or "3" of an axis without labels.
const labelsOf = side => side === 'query' ? current().queryLabels : current().keyLabels;
const textOf = (side, i) => labelsOf(side).length > 0 ? labelsOf(side)[i] : String(i);
const spokenOf = (side, i) =>
  side + ' ' + i + (labelsOf(side).length > 0 ? " '" + labelsOf(side)[i] + "'" : '');
const say = text => byId('said').textContent = text;

// ---- The beginning

for (const input of byId('tools').querySelectorAll('input')) {
  input.checked = state[input.name] === input.value;
  input.addEventListener('change', () => {
    state[input.name] = input.value;
    refresh();
    redrawThumbs();
  });
}

function start() {
  const count = layers.reduce((sum, layer) => sum + layer.heads.length, 0);
  const plural = (n, word) => n + ' ' + word + (n === 1 ? '' : 's');
  byId('summary').textContent = plural(layers.length, 'layer') + ', ' + plural(count, 'head');
  if (count === 0) {
    byId('nothing').hidden = false;
    return;
  }
  for (const id of ['tools', 'heads', 'detail', 'help']) byId(id).hidden = false;
  makeHeads();
  followHash();
  if (state.layer < 0) openHead(layers.findIndex(layer => layer.heads.length > 0), 0, false);
  redrawThumbs();
  addEventListener('hashchange', followHash);
  const again = oncePerFrame(() => (refresh(), redrawThumbs()));
  new ResizeObserver(oncePerFrame(refresh)).observe(byId('views'));
  let size = '';
  addEventListener('resize', () => {
    const now = [document.documentElement.clientWidth, windowHeight(), devicePixelRatio].join();
    if (now !== size) again();
    size = now;
  });
  coarse.addEventListener('change', again);
  dark.addEventListener('change', again);
}
)js";

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::plot
