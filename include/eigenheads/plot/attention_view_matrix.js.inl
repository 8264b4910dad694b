// SPDX-License-Identifier: MIT
// The script of the pages, third part: the matrix of the open head, its labels, and the cell that
// the pointer or the keys are at.
R"js(
// ---- The matrix. One canvas, as large as what is seen of it; scrolling moves what is drawn.

const matrix = byId('matrix'), sheet = matrix.firstElementChild, cell = byId('cell');
const tip = byId('tip');
const grid = { left: 0, top: 0, width: 0, height: 0, turn: 0 };  // turn: of key labels, in degrees

// The text, or its beginning and an ellipsis.
function shortened(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  const runes = Array.from(text);
  let least = 0, most = runes.length;
  while (least < most) {
    const middle = (least + most + 1) >> 1;
    const fits = context.measureText(runes.slice(0, middle).join('') + '…').width <= width;
    if (fits) least = middle;
    else most = middle - 1;
  }
  return runes.slice(0, least).join('') + '…';
}

// The labels of an axis, the widest of them, and from one to the next that is drawn.
function measured(context, side, count, limit) {
  const named = labelsOf(side).length > 0;
  const texts = Array.from({ length: count }, (_, i) => shortened(context, textOf(side, i), limit));
  const measure = named ? texts : texts.slice(-1);
  return { texts, named, widest: Math.max(0, ...measure.map(t => context.measureText(t).width)) };
}
function strideOf(length, cell, named) {
  const least = length / cell;
  if (named) return Math.max(1, Math.ceil(least));
  for (let power = 1;; power *= 10)
    for (const multiple of [1, 2, 5]) if (multiple * power >= least) return multiple * power;
}

function layOutMatrix() {
  const { queries: Q, keys: K } = current();
  const empty = Q * K === 0, space = byId('matrix-hint').closest('.above').clientWidth;
  byId('zoom').hidden = matrix.hidden = empty;
  byId('matrix-hint').textContent =
    empty ? 'There are no cells.' : 'Rows are queries, columns are keys.';
  if (empty) return setCell(null);
  const context = matrix.querySelector('canvas').getContext('2d');
  context.font = fontOf(600);  // the wider of the two
  const limit = clamp(space * .28, 72, 150);
  const queries = measured(context, 'query', Q, limit), keys = measured(context, 'key', K, limit);
  const ratio = devicePixelRatio, whole = x => Math.ceil(x * ratio) / ratio;
  const width = space - queries.widest - 14, tall = tallest();
  const lean = side => keys.widest * .7072 - side / 2 + 10;  // of the last label, to the right
  const above = side => ({ 0: 24, 45: keys.widest * .7072 + 18, 90: keys.widest + 14 })[turn(side)];
  const fitted = slack => Math.max(Math.min((width - slack - 2) / K, 60), .75);
  const slanted = fitted(Math.max(8, lean(fitted(8)))), canSlant = slanted >= 17;
  const turn = side => keys.widest + 6 <= side || !keys.named ? 0
    : side >= 17 && (canSlant || state.zoom !== 1) ? 45 : 90;
  let w = turn(fitted(8)) === 45 ? slanted : fitted(8);
  let h = clamp((tall - above(w) - 6) / Q, .75, 60);
  [w, h] = [Math.min(w, Math.max(h, 14)), Math.min(h, Math.max(w, 14))];
  const snapped = side => {
    side = clamp(side * state.zoom, .75, 96);
    return side < 2 ? side : Math.floor(side * ratio) / ratio;
  };
  Object.assign(grid, { width: snapped(w), height: snapped(h) });
  byId('smaller').disabled = grid.width <= .75 || grid.height <= .75;
  byId('larger').disabled = grid.width >= 96 || grid.height >= 96;
  grid.turn = turn(grid.width);
  grid.left = whole(queries.widest + 14);
  grid.top = whole(above(grid.width));
  const total = grid.left + K * grid.width + Math.max(8, grid.turn === 45 ? lean(grid.width) : 0);
  const totalHeight = grid.top + Q * grid.height + 4;
  // room: from one label to the next, at least.
  queries.room = queries.named ? 14 : 20;
  keys.room = { 0: keys.widest + (keys.named ? 6 : 10), 45: 17, 90: 14 }[grid.turn];
  queries.stride = strideOf(queries.room, grid.height, queries.named);
  keys.stride = strideOf(keys.room, grid.width, keys.named);
  Object.assign(grid, { queries, keys });
  sheet.style.width = total + 'px';
  sheet.style.height = totalHeight + 'px';
  const bar = total > space + 1 ? 16 : 0;  // to scroll with
  matrix.style.width = Math.min(space, Math.ceil(total)) + 'px';
  matrix.style.height = Math.min(Math.ceil(totalHeight), tall) + bar + 'px';
  byId('matrix-hint').textContent += grid.width * ratio < 1 || grid.height * ratio < 1
    ? ' Each pixel shows the greatest weight of the cells it covers.' : '';
  drawMatrix();
  setCell(state.cell);
}

function drawMatrix() {
  if (matrix.hidden) return;
  const { queries: Q, keys: K } = current(), ratio = devicePixelRatio;
  const { clientWidth: W, clientHeight: H, scrollLeft: x0, scrollTop: y0 } = matrix;
  const { left, top, width: w, height: h } = grid;
  const context = prepared(sheet.querySelector('canvas'), W, H);
  const weights = weightsOf(state.layer, state.head);
  const right = Math.min(W, left + K * w - x0), bottom = Math.min(H, top + Q * h - y0);
  const pixels = (from, to) => Math.max(0, Math.round(to * ratio) - Math.round(from * ratio));
  raster(context, Math.round(left * ratio), Math.round(top * ratio),
         spans(pixels(top, bottom), y0 / h, 1 / (h * ratio), Q),
         spans(pixels(left, right), x0 / w, 1 / (w * ratio), K), weights, K, scaleOf(weights));

  const [ink, muted, surface, line] = ['--ink', '--muted', '--surface', '--line'].map(styleOf);
  const q0 = Math.floor(y0 / h), q1 = Math.min(Q, Math.ceil((y0 + H - top) / h));
  const k0 = Math.floor(x0 / w), k1 = Math.min(K, Math.ceil((x0 + W - left) / w));
  if (w >= 10 && h >= 10) {
    context.fillStyle = surface;
    for (let q = q0 + 1; q < q1; ++q)
      context.fillRect(left, top + q * h - y0 - .5, right - left, 1);
    for (let k = k0 + 1; k < k1; ++k)
      context.fillRect(left + k * w - x0 - .5, top, 1, bottom - top);
  }
  context.strokeStyle = line;
  context.strokeRect(left - .5, top - .5, right - left + 1, bottom - top + 1);

  // The labels of the cell's row and column are always there; others make room for them.
  const axis = (first, last, stride, chosen, length, side, label) => {
    context.font = fontOf(400);
    context.fillStyle = muted;
    for (let i = Math.ceil(first / stride) * stride; i < last; i += stride)
      if (chosen === undefined || (i !== chosen && Math.abs(i - chosen) * side >= length)) label(i);
    if (chosen === undefined || chosen < first || chosen >= last) return;
    context.font = fontOf(600);
    context.fillStyle = ink;
    label(chosen);
  };
  context.textBaseline = 'middle';
  context.textAlign = 'right';
  axis(q0, q1, grid.queries.stride, state.cell?.q, 14, h, q => {
    const y = top + (q + .5) * h - y0;
    if (y > top - 4 && y < H) context.fillText(grid.queries.texts[q], left - 8, y);
  });
  context.textAlign = grid.turn === 0 ? 'center' : 'left';
  axis(k0, k1, grid.keys.stride, state.cell?.k, grid.keys.room, w, k => {
    const x = left + (k + .5) * w - x0;
    if (x < left - 1 || x > W) return;
    context.save();
    context.translate(grid.turn === 45 ? x + 2 : x, top - (grid.turn === 0 ? 12 : 8));
    context.rotate(-grid.turn * Math.PI / 180);
    context.fillText(grid.keys.texts[k], 0, 0);
    context.restore();
  });
}

const redrawMatrix = oncePerFrame(() => (drawMatrix(), placeCell()));

// The cell that the pointer or the keys are at: {q, k} or null.
function setCell(at) {
  const had = state.cell;
  state.cell = at;
  cell.hidden = tip.hidden = !at;
  if (!at) {
    matrix.removeAttribute('aria-activedescendant');
    if (had) redrawMatrix();
    return;
  }
  const { q, k } = at, x = weightsOf(state.layer, state.head).values[q * current().keys + k];
  tip.replaceChildren(make('strong', valueText(x)));
  for (const [side, i] of [['query', q], ['key', k]]) {
    const place = make('span', side + ' ' + i + ' ');
    if (labelsOf(side).length > 0) place.append(make('bdi', textOf(side, i)));
    tip.append(place);
  }
  const spoken = spokenOf('query', q) + ', ' + spokenOf('key', k) + ': ' + valueText(x);
  cell.setAttribute('aria-label', spoken);
  cell.parentElement.setAttribute('aria-rowindex', q + 1);
  cell.setAttribute('aria-colindex', k + 1);
  matrix.setAttribute('aria-activedescendant', 'cell');
  placeCell();
  redrawMatrix();
}

function placeCell() {
  if (!state.cell) return;
  const { left, top, width: w, height: h } = grid, { q, k } = state.cell;
  const x = left + k * w, y = top + q * h;
  Object.assign(cell.style, { left: x + 'px', top: y + 'px', width: w + 'px', height: h + 'px' });
  const { clientWidth: W, clientHeight: H, scrollLeft: x0, scrollTop: y0 } = matrix;
  const sx = x - x0, sy = y - y0;
  const seen = sx > left - w / 2 - 1 && sy > top - h / 2 - 1 && sx < W && sy < H;
  cell.style.visibility = seen ? 'visible' : 'hidden';
  tip.hidden = !seen;
  if (!seen) return;
  const box = matrix.getBoundingClientRect(), size = tip.getBoundingClientRect();
  let tx = box.left + sx + w + 12, ty = box.top + sy + h + 12;
  if (tx + size.width > innerWidth - 8) tx = box.left + sx - size.width - 12;
  if (ty + size.height > innerHeight - 8) ty = box.top + sy - size.height - 12;
  tip.style.left = clamp(tx, 8, innerWidth - size.width - 8) + 'px';
  tip.style.top = clamp(ty, 8, innerHeight - size.height - 8) + 'px';
}

// The cell at the pointer. Of those that share its pixel it is the greatest, which is what is seen.
function cellAt(event) {
  const { queries: Q, keys: K } = current(), weights = weightsOf(state.layer, state.head);
  const box = matrix.getBoundingClientRect(), { left, top, width: w, height: h } = grid;
  const x = event.clientX - box.left, y = event.clientY - box.top;
  if (x < left || y < top) return null;
  const [q0, q1] = cellsAt(y - top, matrix.scrollTop, h, Q);
  const [k0, k1] = cellsAt(x - left, matrix.scrollLeft, w, K);
  if (q0 >= Q || k0 >= K) return null;
  let found = { q: q0, k: k0 }, most = -1;
  for (let q = q0; q < q1; ++q)
    for (let k = k0; k < k1; ++k) {
      const level = levelOf(weights.values[q * K + k], scaleOf(weights));
      if (level > most) found = { q, k }, most = level;
    }
  return found;
}
function cellsAt(place, scrolled, side, count) {
  const ratio = devicePixelRatio, at = Math.floor((place + scrolled) / side);
  if (side * ratio >= 1 || at >= count) return [at, at + 1];
  const pixels = Math.floor(place * ratio) + 1;
  const { from, to } = spans(pixels, scrolled / side, 1 / (side * ratio), count);
  return [from.at(-1), to.at(-1)];
}

// A pointer that rests while the matrix scrolls under it has not moved.
let rest = '';
sheet.addEventListener('pointermove', event => {
  const place = event.clientX + ' ' + event.clientY;
  if (event.pointerType === 'touch' || place === rest) return;
  rest = place;
  setCell(cellAt(event));
});
sheet.addEventListener('pointerleave', event => {
  if (event.pointerType !== 'touch') setCell(null);
});
sheet.addEventListener('click', event => setCell(cellAt(event)));
matrix.addEventListener('scroll', redrawMatrix);
matrix.addEventListener('blur', () => setCell(null));
matrix.addEventListener('focus', () => {
  if (!state.cell && matrix.matches(':focus-visible')) setCell({ q: 0, k: 0 });
});
addEventListener('scroll', () => placeCell(), { passive: true });

matrix.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { queries: Q, keys: K } = current(), { q, k } = state.cell || { q: 0, k: 0 };
  const page = Math.max(1, Math.floor((matrix.clientHeight - grid.top) / grid.height) - 1);
  const moves = {
    ArrowLeft: [q, k - 1], ArrowRight: [q, k + 1], ArrowUp: [q - 1, k], ArrowDown: [q + 1, k],
    Home: [q, 0], End: [q, K - 1], PageUp: [q - page, k], PageDown: [q + page, k],
  };
  if (event.key === 'Escape') return setCell(null);
  if (event.key === '+' || event.key === '=') return zoomBy(1.5);
  if (event.key === '-') return zoomBy(1 / 1.5);
  if (!moves[event.key]) return;
  event.preventDefault();
  const [row, column] = state.cell ? moves[event.key] : [q, k];
  const to = { q: clamp(row, 0, Q - 1), k: clamp(column, 0, K - 1) };
  const { left, top, width: w, height: h } = grid;
  const { clientWidth: W, clientHeight: H, scrollLeft: x, scrollTop: y } = matrix;
  matrix.scrollTo(clamp(x, (to.k + 1) * w + left + 4 - W, to.k * w),
                  clamp(y, (to.q + 1) * h + top + 4 - H, to.q * h));
  setCell(to);
  say(cell.getAttribute('aria-label'));
});

// What is in the middle stays there.
function zoomBy(factor) {
  const { width: w, height: h, left, top } = grid;
  const x = (matrix.scrollLeft + (matrix.clientWidth - left) / 2) / w;
  const y = (matrix.scrollTop + (matrix.clientHeight - top) / 2) / h;
  state.zoom = factor === 0 ? 1 : clamp(state.zoom * factor, .02, 200);
  layOutMatrix();
  matrix.scrollLeft = x * grid.width - (matrix.clientWidth - grid.left) / 2;
  matrix.scrollTop = y * grid.height - (matrix.clientHeight - grid.top) / 2;
  redrawMatrix();
}
byId('smaller').addEventListener('click', () => zoomBy(1 / 1.5));
byId('larger').addEventListener('click', () => zoomBy(1.5));
byId('fit').addEventListener('click', () => zoomBy(0));
)js"
