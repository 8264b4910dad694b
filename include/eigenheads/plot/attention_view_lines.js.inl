// SPDX-License-Identifier: MIT
// The script of the pages, fourth part: two columns of tokens, and lines from query to key.
R"js(
// ---- The lines. token: the {side, index} whose lines are drawn alone, kept if it was chosen
// rather than pointed at.

const lines = byId('lines'), lists = { query: byId('queries'), key: byId('keys') };
let rowHeight = 24;
const mostLines = 20000;

function makeTokens() {
  for (const side of ['query', 'key']) {
    const count = side === 'query' ? current().queries : current().keys;
    lists[side].replaceChildren(...Array.from({ length: count }, (_, i) => {
      const option = make('div', '', {
        role: 'option', id: side + '-' + i, 'data-index': i, 'aria-selected': false,
      });
      option.append(make('bdi', textOf(side, i)), make('output'));
      return option;
    }));
  }
  lines.scrollTop = 0;
}

function layOutLines() {
  const { queries: Q, keys: K } = current(), most = Math.max(Q, K);
  // About as high as the matrix, if that leaves room for a finger or a pointer.
  const row = clamp(Math.floor(matrix.clientHeight / (most || 1)), coarse.matches ? 34 : 24, 36);
  rowHeight = row;
  const space = byId('sides').clientWidth;
  const context = lines.querySelector('canvas').getContext('2d');
  context.font = fontOf(400, getComputedStyle(lists.query).fontSize);
  for (const [side, count] of [['query', Q], ['key', K]]) {
    let widest = 0;
    for (let i = 0; i < count; ++i)
      widest = Math.max(widest, context.measureText(textOf(side, i)).width);
    lists[side].style.width = Math.round(clamp(widest * 1.08 + 92, 110, space * .38)) + 'px';
    for (const option of lists[side].children) option.style.height = row + 'px';
    byId('sides').children[side === 'query' ? 0 : 1].style.width = lists[side].style.width;
  }
  lines.firstElementChild.style.height = most * row + 'px';
  lines.style.height = Math.min(most * row, tallest()) + 'px';
  setToken(state.token);
}

function drawLines() {
  const { queries: Q, keys: K } = current(), row = rowHeight;
  const W = lines.clientWidth, H = lines.clientHeight, y0 = lines.scrollTop;
  const context = prepared(lines.querySelector('canvas'), W, H);
  const weights = weightsOf(state.layer, state.head), values = weights.values;
  const scale = scaleOf(weights);
  const left = lists.query.offsetWidth + 3, right = W - lists.key.offsetWidth - 3;
  const only = state.token, buckets = [];
  let count = 0;
  const add = (q, k) => {
    const level = levelOf(values[q * K + k], scale);
    if (level === 0) return;
    const y1 = (q + .5) * row - y0, y2 = (k + .5) * row - y0;
    if (Math.max(y1, y2) < 0 || Math.min(y1, y2) > H) return;
    (buckets[level] ??= []).push(y1, y2);
    ++count;
  };
  for (let q = 0; q < Q; ++q) {
    if (only?.side === 'query' && only.index !== q) continue;
    if (only?.side === 'key') add(q, only.index);
    else for (let k = 0; k < K; ++k) add(q, k);
  }
  let lowest = 256, room = mostLines;
  while (lowest > 1 && room > 0) room -= (buckets[--lowest]?.length ?? 0) / 2;
  for (let level = lowest; level < 256; ++level) {
    const ends = buckets[level];
    if (!ends) continue;
    const isNaN = level === nanLevel;
    context.globalAlpha = isNaN ? .7 : level / 254;
    context.strokeStyle = 'rgb(' + (isNaN ? colorOf(nanLevel) : styleOf('--data')) + ')';
    context.lineWidth = only ? 2.5 : 1.75;
    context.setLineDash(isNaN ? [3, 4] : []);
    context.beginPath();
    const drawn = level === lowest && room < 0 ? ends.length + 2 * room : ends.length;
    for (let i = 0; i < drawn; i += 2) {
      context.moveTo(left, ends[i]);
      context.lineTo(right, ends[i + 1]);
    }
    context.stroke();
  }
  context.globalAlpha = 1;
  const choose = coarse.matches ? 'Tap' : 'Point at';
  byId('lines-hint').textContent = Q * K === 0 ? 'There are no lines.'
    : count > mostLines
      ? 'The strongest ' + mostLines.toLocaleString('en') + ' of ' + count.toLocaleString('en') +
      ' lines in view. ' + choose + ' a token for all of its own.'
    : only ? 'The lines of ' + spokenOf(only.side, only.index) + '.'
    : 'Opacity follows the colour scale. ' + choose + ' a token for its lines alone.';
}
const redrawLines = oncePerFrame(drawLines);

function setToken(token) {
  state.token = token;
  const { keys: K, queries: Q } = current();
  const weights = weightsOf(state.layer, state.head), scale = scaleOf(weights);
  for (const side of ['query', 'key']) {
    const mine = token?.side === side;
    for (const option of lists[side].children) {
      const i = Number(option.dataset.index);
      option.setAttribute('aria-selected', mine && token.index === i);
      let weight = 0, text = '';
      if (token && !mine) {
        const x = weights.values[side === 'key' ? token.index * K + i : i * K + token.index];
        const level = levelOf(x, scale);
        weight = level === nanLevel ? 0 : level / 254;
        text = level > 0 ? valueText(x) : '';
      }
      option.style.setProperty('--weight', weight);
      if (option.lastChild.textContent !== text) option.lastChild.textContent = text;
    }
    if (mine) lists[side].setAttribute('aria-activedescendant', side + '-' + token.index);
    else lists[side].removeAttribute('aria-activedescendant');
  }
  redrawLines();
}

// "query 2 'sat': 0.5 to key 1 'cat', 0.25 to ...": the three greatest.
function spokenToken({ side, index }) {
  const { queries: Q, keys: K } = current(), { values } = weightsOf(state.layer, state.head);
  const other = side === 'query' ? 'key' : 'query';
  const found = Array.from({ length: other === 'key' ? K : Q }, (_, i) =>
    [values[other === 'key' ? index * K + i : i * K + index], i]).filter(([x]) => x > 0);
  found.sort((a, b) => b[0] - a[0]);
  const direction = side === 'query' ? ' to ' : ' from ';
  const names = found.slice(0, 3).map(([x, i]) => valueText(x) + direction + spokenOf(other, i));
  return spokenOf(side, index) + ': ' + (names.join(', ') || 'nothing');
}

for (const side of ['query', 'key']) {
  const otherSide = side === 'query' ? 'key' : 'query';
  const list = lists[side], other = lists[otherSide];
  const indexAt = event => event.target.closest('[role=option]')?.dataset.index;
  list.addEventListener('pointerover', event => {
    const index = indexAt(event);
    if (index !== undefined && event.pointerType !== 'touch' && !state.token?.kept)
      setToken({ side, index: Number(index) });
  });
  list.addEventListener('pointerleave', event => {
    if (event.pointerType !== 'touch' && !state.token?.kept) setToken(null);
  });
  list.addEventListener('click', event => {
    const index = Number(indexAt(event)), old = state.token;
    if (Number.isNaN(index)) return;
    const same = old?.kept && old.side === side && old.index === index;
    setToken(same ? null : { side, index, kept: true });
  });
  list.addEventListener('focus', () => {
    if (list.matches(':focus-visible') && state.token?.side !== side)
      setToken({ side, index: 0, kept: true });
  });
  list.addEventListener('blur', event => {
    if (!lines.contains(event.relatedTarget)) setToken(null);
  });
  list.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const last = list.children.length - 1, at = state.token?.side === side ? state.token.index : -1;
    const moves = {
      ArrowUp: at - 1, ArrowDown: at + 1, PageUp: at - 10, PageDown: at + 10, Home: 0, End: last,
    };
    if (event.key === 'Escape') return setToken(null);
    if (event.key === (side === 'query' ? 'ArrowRight' : 'ArrowLeft')) {
      other.focus();
      const most = other.children.length - 1;
      if (most >= 0) setToken({ side: otherSide, index: clamp(at, 0, most), kept: true });
    } else if (moves[event.key] !== undefined && last >= 0) {
      const token = { side, index: clamp(moves[event.key], 0, last), kept: true };
      setToken(token);
      list.children[token.index].scrollIntoView({ block: 'nearest' });
      say(spokenToken(token));
    } else return;
    event.preventDefault();
  });
}
lines.addEventListener('scroll', redrawLines);
)js"
