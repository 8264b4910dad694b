# SPDX-License-Identifier: MIT
"""prepare.py: writes the repository's headers to SITE/include, and its Markdown to SITE/pages, as Doxygen
wants them. Every link becomes one
within the site, code that names a header, a file or a test becomes a link to it, and headings get names.
SITE/sources.txt lists the files that pages point to."""
import pathlib
import posixpath
import re
import shutil

from header_filter import filtered
from site_pages import PAGES, ROOT, SITE, is_documented, repository_files, source_page, test_at

FILES = repository_files()
LINK = re.compile(r'(!?)\[((?:[^\[\]`]|`[^`]*`)*)\]\(([^()\s]+)\)')
TEST = re.compile(r'[a-z0-9_/]+/[A-Za-z]+\.[A-Z][A-Za-z0-9]+')
sources = set()


def to_source(path, line=None):
    sources.add(path)
    return source_page(path) + (f'#L{line}' if line else '')


def address(path, page, heading=''):
    """Of a file of the repository, and of a heading in it."""
    if path in PAGES:
        name = PAGES[path]
        return '@ref ' + (f'{name}-{heading}' if heading else 'mainpage' if name == 'index' else name)
    if is_documented(path):
        return 'header/' + path  # finish.py knows its page
    if path not in FILES:
        raise SystemExit(f'{page}: there is no {path}')
    return to_source(path)


def linked(match, page):
    image, text, target = match.groups()
    if re.match(r'https?:', target):
        return match[0]
    target, _, heading = target.partition('#')
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
    if image:
        shutil.copy(ROOT / path, SITE / 'html' / pathlib.Path(path).name)
        return f'<img src="{pathlib.Path(path).name}" alt="{text}"/>'
    return f'[{text}]({address(path, page, heading)})'


def linked_code(match, page):
    code = match[1]
    if TEST.fullmatch(code):
        return f'[`{code}`]({to_source(*test_at(code))})'
    if is_documented(f'include/eigenheads/{code}') and f'include/eigenheads/{code}' in FILES:
        return f'[`{code}`](header/include/eigenheads/{code})'
    if '/' in code and code in FILES:
        return f'[`{code}`]({address(code, page)})'
    return match[0]


def prose(text, page):
    """What stands outside of code."""
    parts = []
    last = 0
    for match in LINK.finditer(text):  # links first: code in them is linked already
        parts += [re.sub(r'`([^`\n]+)`', lambda m: linked_code(m, page), text[last:match.start()]),
                  linked(match, page)]
        last = match.end()
    parts.append(re.sub(r'`([^`\n]+)`', lambda m: linked_code(m, page), text[last:]))
    return ''.join(parts)


def prepared(page):
    name = PAGES[page]
    text = (ROOT / page).read_text(encoding='utf-8')
    parts = re.split(r'(^```.*?^```$)', text, flags=re.M | re.S)
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = re.sub(r'^```(?!cpp$)\w+$', '```{.unparsed}', part, count=1, flags=re.M)
            continue
        part = re.sub(r'<!--.*?-->\n?', '', prose(part, page), flags=re.S)
        part = re.sub(r'^# (.*)$', r'# \1 {#%s}' % ('mainpage' if name == 'index' else name), part,
                      flags=re.M)
        parts[i] = re.sub(r'^(##+) (.*)$', lambda m: f'{m[1]} {m[2]} {{#{name}-{slug(m[2])}}}', part,
                          flags=re.M)
    return ''.join(parts)


def slug(heading):
    return re.sub(r'[^a-z0-9]+', '-', heading.lower()).strip('-')


(SITE / 'pages').mkdir(parents=True)
(SITE / 'html').mkdir()
for page, name in PAGES.items():
    (SITE / 'pages' / f'{name}.md').write_text(prepared(page), encoding='utf-8')
for path in sorted(FILES):
    if is_documented(path):
        sources.add(path)
        (SITE / path).parent.mkdir(parents=True, exist_ok=True)
        (SITE / path).write_text(filtered(ROOT / path), encoding='utf-8')
(SITE / 'sources.txt').write_text(''.join(f'{path}\n' for path in sorted(sources)), encoding='utf-8')
