# SPDX-License-Identifier: MIT
"""check.py CHROMIUM FOLDER: uses the pages that `pages` wrote to FOLDER as a reader would."""
import base64
import json
import math
import pathlib
import struct
import sys

from devtools import Browser, Page

checks = failures = 0


def check(what, got, expected=True):
    global checks, failures
    checks += 1
    if got != expected:
        failures += 1
        print(f'FAILED {what}: got {got!r}, expected {expected!r}', flush=True)


def to_float(x):
    return struct.unpack('<f', struct.pack('<f', x))[0]


def weight(h, q, k, K):  # pages.cpp: weight
    return to_float((h * 131 + (q * K + k) * 37) % 1009 / 1009)


def text_of(x):  # four significant digits
    return format(x, '.4g')


def one(selector):
    return f'document.querySelector("{selector}")'


def text(selector):
    return one(selector) + '.textContent'


# How a reader finds things, in words of the page.
ROWS = "document.querySelectorAll('#heads [role=row]')"
HEAD = ROWS + "[{0}].querySelectorAll('[role=gridcell]')[{1}]"
TITLE = text('#name')
TIP = f"({one('#tip')}.hidden ? '' : {one('#tip')}.innerText)"
CELL = one('#cell')
ROW = f'(Number({CELL}.parentElement.ariaRowIndex) - 1)'
COLUMN = f'(Number({CELL}.ariaColIndex) - 1)'
FOCUS = '(e => e.id || e.ariaLabel || e.value)(document.activeElement)'
HINT = text('#lines-hint')
SAID = text('#said')

# The texts whose contrast to what is behind them is below 4.5 (WCAG 2.2, 1.4.3).
LOW_CONTRAST = r"""(() => {
  const parse = color => {
    const [r, g, b, a = 1] = color.match(/[\d.]+/g).map(Number);
    return color.startsWith('color(') ? [255 * r, 255 * g, 255 * b, a] : [r, g, b, a];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((c, i) => c * a + under[i] * (1 - a));
  const behind = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement)
      layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reduceRight((under, layer) => over(layer, under), [255, 255, 255]);
  };
  const luminance = color => {
    const [r, g, b] =
      color.map(c => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const contrast = (a, b) => {
    const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (light + .05) / (dark + .05);
  };
  const low = [];
  let seen = 0;
  for (const element of document.body.querySelectorAll('*')) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility()) continue;
    if (element.closest('script, .unseen, :disabled')) continue;
    ++seen;
    const back = behind(element), front = over(parse(getComputedStyle(element).color), back);
    const ratio = contrast(front, back);
    if (ratio < 4.5) low.push(element.textContent.trim().slice(0, 30) + ' ' + ratio.toFixed(2));
  }
  const style = getComputedStyle(document.documentElement);
  const named = name => {  // what the canvases are drawn with
    document.body.style.outlineColor = 'var(' + name + ')';
    const color = parse(getComputedStyle(document.body).outlineColor);
    document.body.style.outlineColor = '';
    return over(color, [255, 255, 255]);
  };
  for (const name of ['--ink', '--muted'])
    if (contrast(named(name), named('--surface')) < 4.5) low.push(name);
  if (contrast(named('--accent'), named('--surface')) < 3) low.push('--accent');
  return seen > 20 ? low : ['only ' + seen + ' texts'];
})()"""


class Reader:
    def __init__(self, browser, folder):
        self.folder = folder
        self.page = Page(browser)

    def open(self, name, fragment=''):
        self.page.open('about:blank')  # only a fragment would load nothing
        self.page.open((self.folder / name).as_uri() + fragment)
        self.page.wait("document.querySelector('#summary').textContent.includes('layer')")
        self.page.settle()

    def middle(self, expression):
        """Where it is in the window, scrolled into view first."""
        self.page.evaluate(f"{expression}.scrollIntoView({{block: 'nearest', inline: 'nearest'}})")
        self.page.settle()
        box = self.page.evaluate(
            f"(b => [b.left, b.top, b.width, b.height])({expression}.getBoundingClientRect())")
        return box[0] + box[2] / 2, box[1] + box[3] / 2

    def click(self, expression):
        self.page.click(*self.middle(expression))
        self.page.settle()

    def tap(self, expression):
        self.page.tap(*self.middle(expression))
        self.page.settle()

    def press(self, *keys):
        self.page.press(*keys)
        self.page.settle()

    def place_of(self, q, k):
        """Of a cell of the matrix: where the keys put the ring around it."""
        self.page.evaluate(f"document.activeElement.blur(), {one('#matrix')}.focus()")
        if self.page.evaluate(f'{CELL}.hidden'):
            self.press('ArrowDown')  # the first key shows where one is
        row, column = self.page.evaluate(f'[{ROW}, {COLUMN}]')
        self.press(*['ArrowDown'] * (q - row), *['ArrowUp'] * (row - q),
                   *['ArrowRight'] * (k - column), *['ArrowLeft'] * (column - k))
        place = self.middle(CELL)
        self.press('Escape')
        check('Escape lets go of the cell', self.page.evaluate(TIP), '')
        return place

    def hover_cell(self, q, k):
        place = self.place_of(q, k)
        self.page.move(2, 2)
        self.page.move(*place)
        self.page.settle()
        return self.page.evaluate(TIP).split('\n')

    def pixel(self, x, y):
        """Of the matrix's canvas, at a place of the window."""
        return self.page.evaluate(f"""(() => {{
          const canvas = {one('#matrix canvas')}, box = canvas.getBoundingClientRect();
          const x = Math.floor(({x} - box.left) * devicePixelRatio);
          const y = Math.floor(({y} - box.top) * devicePixelRatio);
          return [...canvas.getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3);
        }})()""")

    def color(self, level, dark=False):
        model = json.loads(self.page.evaluate(text('#model')))
        return list(base64.b64decode(model['palettes'][dark])[3 * level:3 * level + 3])

    def drawn(self):
        """How much of the lines' canvas is not empty."""
        self.page.settle()
        return self.page.evaluate("""(() => {
          const canvas = document.querySelector('#lines canvas');
          const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
          let sum = 0;
          for (let i = 3; i < data.length; i += 4) sum += data[i] > 0;
          return sum;
        })()""")


def with_a_mouse(reader):
    page = reader.page
    page.emulate(1280, 900)
    reader.open('known.html')
    check('the title', page.evaluate('document.title'), 'Known weights')
    check('the summary', page.evaluate(text('#summary')),
          '2 layers, 8 heads')
    page.wait("document.querySelectorAll('#heads canvas[data-drawn]').length === 8")
    check('the first head is open', page.evaluate(TITLE), 'encoder 1 · Head 1')

    reader.click(HEAD.format(0, 3))
    check('a click opens a head', page.evaluate(TITLE), 'encoder 1 · Head 4')
    check('its shape', page.evaluate(text('#shape')),
          '4 queries × 6 keys')
    check('its address', page.evaluate('location.hash'), '#layer=0&head=3')
    check('one head is selected',
          page.evaluate("[...document.querySelectorAll('#heads [aria-selected=true]')]"
                        '.map(cell => cell.ariaLabel)'), ['encoder 1, Head 4'])
    check('the matrix shows', page.evaluate(one('#matrix') + '.checkVisibility()'))
    check('the labels of the axes reach the matrix',
          page.evaluate(one('#matrix') + '.ariaLabel'),
          'Weights of encoder 1, Head 4')

    queries, keys = ['the', 'cat', 'sat', 'down'], ['le', 'chat', "s'est", 'assis', 'par', 'terre']
    values = [[weight(3, q, k, 6) for k in range(6)] for q in range(4)]
    high = max(map(max, values))
    for q, k in [(0, 0), (1, 4), (3, 5), (2, 1)]:
        check(f'cell {q}, {k}', reader.hover_cell(q, k),
              [text_of(values[q][k]), f'query {q} {queries[q]}', f'key {k} {keys[k]}'])
        place = reader.place_of(q, k)
        page.move(2, 2)
        page.settle()
        check(f'the colour of cell {q}, {k}', reader.pixel(*place),
              reader.color(math.floor(values[q][k] / high * 254 + .5)))
    check('nothing is said of what is outside', page.evaluate(TIP), '')

    # One scale for all heads, then the root of it.
    reader.click(one('input[value=all]'))
    ends = "[...document.querySelectorAll('#ends span')].map(e => e.textContent)"
    most = max(weight(h, q, k, K) for H, Q, K in [(5, 4, 6), (3, 3, 3)]
               for h in range(H) for q in range(Q) for k in range(K))
    check('the ends of the common scale', page.evaluate(ends),
          ['0', text_of(most / 2), text_of(most)])
    place = reader.place_of(1, 4)
    page.move(2, 2)
    reader.click(one('input[value=root]'))
    check('the colour by the root', reader.pixel(*place),
          reader.color(math.floor(math.sqrt(values[1][4] / most) * 254 + .5)))
    reader.click(one('input[value=each]'))
    reader.click(one('input[value=linear]'))

    # Lines of one token.
    every = reader.drawn()
    weights = "[...document.querySelectorAll('#keys output')].map(e => e.textContent)"
    page.move(*reader.middle(one('#query-2')))
    alone = reader.drawn()
    check('a token has fewer lines than all', 0 < alone < every)
    check('the weights of query 2', page.evaluate(weights),
          ['' if values[2][k] == 0 else text_of(values[2][k]) for k in range(6)])
    page.move(2, 2)
    check('all lines are back', reader.drawn(), every)
    reader.click(one('#key-1'))
    page.move(2, 2)
    page.settle()
    check('a chosen token stays', page.evaluate(one('#key-1') + '.ariaSelected'), 'true')
    check('the lines of key 1', page.evaluate(HINT), "The lines of key 1 'chat'.")
    reader.press('Escape')
    check('Escape shows all lines', reader.drawn(), every)

    # Numbers that are none.
    reader.click(HEAD.format(1, 1))
    check('names of heads', page.evaluate(TITLE), 'decoder 1 · second')
    check('NaN has its colour explained', page.evaluate(one('#nan') + '.checkVisibility()'))
    for k, value in enumerate(['NaN', 'inf', '-inf']):
        check(f'a cell of {value}', reader.hover_cell(0, k), [value, 'query 0', f'key {k}'])
    page.move(2, 2)
    check('NaN is grey', reader.pixel(*reader.place_of(0, 0)), [176, 176, 176])

    reader.click(one('#next'))
    check('the next head', page.evaluate(TITLE), 'decoder 1 · third')
    check('the last head has no next', page.evaluate(one('#next') + '.disabled'))
    page.evaluate('history.back()')
    page.wait(f"{TITLE} === 'decoder 1 · second'")
    check('back', page.evaluate('location.hash'), '#layer=1&head=1')


def with_keys(reader):
    page = reader.page
    page.emulate(1280, 900)
    reader.open('known.html')
    order = []
    for _ in range(12):
        reader.press('Tab')
        order.append(page.evaluate(FOCUS))
        check(f'a ring around {order[-1]}', page.evaluate("""(() => {
          let element = document.activeElement;
          if (element.type === 'radio') element = element.nextElementSibling;
          if (element.role === 'listbox') element = element.querySelector('[aria-selected=true]');
          const style = getComputedStyle(element);
          return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
        })()"""))
        if order[-1] == 'keys':
            break
    check('the order of Tab', order, ['each', 'linear', 'encoder 1, Head 1', 'next', 'smaller',
                                      'larger', 'fit', 'matrix', 'queries', 'keys'])

    page.evaluate(f"{HEAD.format(0, 0)}.focus()")
    reader.press('ArrowRight', 'ArrowRight', 'ArrowLeft', 'ArrowDown')
    check('arrows move between heads', page.evaluate(FOCUS), 'decoder 1, second')
    check('and open none', page.evaluate(TITLE), 'encoder 1 · Head 1')
    reader.press('Enter')
    check('Enter opens', page.evaluate(TITLE), 'decoder 1 · second')
    reader.press('ArrowUp', 'End', 'ArrowRight', ' ')
    check('Space opens', page.evaluate(TITLE), 'encoder 1 · Head 5')
    check('it stays in place', page.evaluate(FOCUS), 'encoder 1, Head 5')
    check('one head is in the order of Tab',
          page.evaluate("document.querySelectorAll('#heads [tabindex=\"0\"]').length"), 1)

    page.evaluate(one('#matrix') + '.focus()')
    reader.press('ArrowRight', 'ArrowDown', 'End')
    q, k = 1, 5
    spoken = f"query {q} 'cat', key {k} 'terre': {text_of(weight(4, q, k, 6))}"
    check('arrows move between cells', page.evaluate(f'{CELL}.ariaLabel'), spoken)
    check('which are told to those who listen', page.evaluate(SAID), spoken)
    check('the active cell is named',
          page.evaluate(one('#matrix') + ".getAttribute('aria-activedescendant')"), 'cell')

    page.evaluate(one('#queries') + '.focus()')
    reader.press('ArrowDown', 'ArrowDown', 'ArrowUp')
    row = sorted(((-weight(4, 1, k, 6), k) for k in range(6)))[:3]
    keys = ['le', 'chat', "s'est", 'assis', 'par', 'terre']
    check('the greatest weights of a token are told', page.evaluate(SAID), "query 1 'cat': " +
          ', '.join(f"{text_of(-x)} to key {k} '{keys[k]}'" for x, k in row))
    reader.press('ArrowRight')
    check('the other column', page.evaluate(FOCUS), 'keys')

    names = [(node['role']['value'], node.get('name', {}).get('value', ''))
             for node in page.call('Accessibility.getFullAXTree')['nodes'] if not node['ignored']]
    check('the grid of heads is one', ('grid', 'Heads, a row for each layer') in names)
    check('the matrix is one', ('grid', 'Weights of encoder 1, Head 5') in names)
    nameless = [role for role, name in names if role in
                ('button', 'grid', 'radio', 'gridcell', 'listbox', 'option', 'image') and not name]
    check('everything that can be used has a name', nameless, [])


def with_a_finger(reader, dark):
    page = reader.page
    page.emulate(390, 844, dark=dark, touch=True, scale=2)
    reader.open('known.html')
    reader.tap(HEAD.format(0, 1))
    check('a tap opens a head', page.evaluate(TITLE), 'encoder 1 · Head 2')
    check('nothing is wider than the phone',
          page.evaluate('document.documentElement.scrollWidth'), 390)
    small = page.evaluate("""
      [...document.querySelectorAll('button, .segments label, #heads [role=gridcell]')]
        .filter(e => e.getBoundingClientRect().height < 44).map(e => e.textContent)""")
    check('what is tapped is large enough', small, [])
    place = reader.place_of(2, 3)
    page.tap(*place)
    page.settle()
    check('a tap shows a cell', page.evaluate(TIP).split('\n'),
          [text_of(weight(1, 2, 3, 6)), 'query 2 sat', 'key 3 assis'])
    tip = f"(b => b.left >= 0 && b.right <= innerWidth)({one('#tip')}.getBoundingClientRect())"
    check('within the window', page.evaluate(tip))
    reader.tap(one('#query-1'))
    check('a tap shows the lines of a token', page.evaluate(HINT), "The lines of query 1 'cat'.")
    check('its weights fit', page.evaluate("""[...document.querySelectorAll('#lines [role=option]')]
      .filter(e => e.scrollWidth > e.clientWidth).map(e => e.textContent)"""), [])


def in_colours(reader):
    page = reader.page
    grounds = set()
    for dark in (False, True):
        for width in (1280, 390):
            name = f"{'dark' if dark else 'light'} {width}"
            page.emulate(width, 900, dark=dark, touch=width == 390)
            reader.open('known.html', '#layer=0&head=2')
            page.wait("document.querySelectorAll('#heads canvas[data-drawn]').length >= 6")
            page.evaluate(one('#query-2') + '.click()')
            place = reader.place_of(1, 2)
            check(f'the contrast of texts, {name}', page.evaluate(LOW_CONTRAST), [])
            page.move(*place)
            page.settle()
            values = [weight(2, q, k, 6) for q in range(4) for k in range(6)]
            check(f'the palette, {name}', reader.pixel(*place),
                  reader.color(math.floor(values[8] / max(values) * 254 + .5), dark))
            check(f'the contrast with a value shown, {name}', page.evaluate(LOW_CONTRAST), [])
            grounds.add(page.evaluate('getComputedStyle(document.body).backgroundColor'))
            page.evaluate('scrollTo(0, 0)')
            page.settle()
            page.screenshot(reader.folder / f"{name.replace(' ', '-')}.png", full=True)
    check('dark and light differ', len(grounds), 2)

    # The colours follow while the page is open.
    page.emulate(1280, 900, dark=False)
    place = reader.place_of(1, 2)
    page.move(2, 2)
    page.settle()
    light = reader.pixel(*place)
    page.emulate(1280, 900, dark=True)
    page.settle()
    check('the matrix follows the mode', light != reader.pixel(*place))

    moving = """[...document.querySelectorAll('*')]
      .filter(e => getComputedStyle(e).transitionDuration !== '0s').length"""
    check('something moves', page.evaluate(moving) > 0)
    page.emulate(1280, 900, reduced_motion=True)
    check('nothing moves if so asked', page.evaluate(moving), 0)


def by_address(reader):
    page = reader.page
    page.emulate(1280, 900)
    reader.open('known.html', '#layer=1&head=2')
    check('an address opens a head', page.evaluate(TITLE), 'decoder 1 · third')
    page.evaluate("location.hash = '#layer=0&head=1'")
    page.wait(f"{TITLE} === 'encoder 1 · Head 2'")
    for wrong in ('#layer=7&head=0', '#layer=0&head=-1', '#layer=x', '#%',
                  '#layer=constructor&head=name'):
        page.evaluate(f"location.hash = '{wrong}'")
        page.settle()
        check(f'{wrong} changes nothing', page.evaluate(TITLE), 'encoder 1 · Head 2')
        reader.open('known.html', wrong)
        check(f'{wrong} opens the first', page.evaluate(TITLE), 'encoder 1 · Head 1')
        page.evaluate("location.hash = '#layer=0&head=1'")
        page.wait(f"{TITLE} === 'encoder 1 · Head 2'")


def of_other_pages(reader):
    page = reader.page
    page.emulate(1280, 900)
    reader.open('hostile.html')
    script = '</script><script>window.hit = 1</script>'
    image = "<img src=x onerror='window.hit = 2'>"
    check('no label is run', page.evaluate('String(window.hit)'), 'undefined')
    check('the title is text', page.evaluate(text('h1')),
          '<script>hit = 3</script>')
    check('names are text', page.evaluate(TITLE), script + ' · ' + image)
    check('labels are text',
          page.evaluate("[...document.querySelectorAll('#lines bdi')].map(e => e.textContent)"),
          [script, image, '\ufffd\u240a\u241b[2J', '"\'&lt;'])
    check('and in the value of a cell', reader.hover_cell(1, 1)[1:],
          [f'query 1 {image}', 'key 1 "\'&lt;'])
    check('no image came of it', page.evaluate("document.querySelectorAll('img').length"), 0)

    reader.open('empty.html')
    check('nothing to look at', page.evaluate(one('#nothing') + '.checkVisibility()'))
    reader.open('hollow.html')
    check('a head without queries', page.evaluate(text('#shape')),
          '0 queries × 3 keys')

    reader.open('large.html', '#layer=0&head=2')
    check('given ends begin with one scale', page.evaluate(one('input[value=all]') + '.checked'))
    page.wait("document.querySelectorAll('#heads canvas[data-drawn]').length === 3")
    check('all of a large matrix is in view',
          page.evaluate('(m => m.scrollWidth <= m.clientWidth && m.scrollHeight <= m.clientHeight)'
                        f"({one('#matrix')})"))
    check('most of many lines', 'The strongest 20,000 of' in page.evaluate(HINT))
    for _ in range(8):
        reader.click(one('#larger'))
    page.evaluate(f"{one('#matrix')}.focus(), {one('#matrix')}.scrollTo(0, 0)")
    reader.press('ArrowDown', 'ArrowDown', 'End')
    check('keys scroll', page.evaluate(one('#matrix') + '.scrollLeft') > 1000)
    row = page.evaluate(ROW)
    place = reader.middle(CELL)
    value = weight(2, row, 511, 512)
    told = [text_of(value), f'query {row}', 'key 511']
    check('a cell that was scrolled to', page.evaluate(TIP).split('\n'), told)
    reader.press('Escape')
    page.move(place[0] + 1, place[1] + 1)
    page.settle()
    check('and by the mouse', page.evaluate(TIP).split('\n'), told)
    page.move(2, 2)
    page.settle()
    check('the colour of a cell that was scrolled to', reader.pixel(*place),
          reader.color(math.floor(value * 254 + .5)))


def main():
    browser = Browser(sys.argv[1])
    try:
        reader = Reader(browser, pathlib.Path(sys.argv[2]).resolve())
        with_a_mouse(reader)
        with_keys(reader)
        with_a_finger(reader, dark=False)
        with_a_finger(reader, dark=True)
        in_colours(reader)
        by_address(reader)
        of_other_pages(reader)
        page = reader.page
        asked = [event['request']['url'] for event in page.events('Network.requestWillBeSent')]
        known = (reader.folder.as_uri() + '/', 'about:', 'data:')
        check('nothing but the pages is asked for',
              [url for url in asked if not url.startswith(known)], [])
        check('nothing is thrown', page.events('Runtime.exceptionThrown'), [])
        logged = [event['entry'] for event in page.events('Log.entryAdded')
                  if 'getImageData' not in event['entry']['text']]  # that these checks read pixels
        check('nothing is logged', page.events('Runtime.consoleAPICalled') + logged, [])
    finally:
        browser.close()
    print(f'{checks} checks, {failures} failed; screenshots in {sys.argv[2]}')
    return failures > 0


if __name__ == '__main__':
    sys.exit(main())
