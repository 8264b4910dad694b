# SPDX-License-Identifier: MIT
"""finish.py: what Doxygen leaves to be done: listings of headers and of the files that pages point to, the
page of all headers and names, links from code in pages, and the index of the search. What Doxygen makes
besides and nobody needs goes: its lists of members, files and classes, and their scripts."""
import html
import json
import re
import shutil
from xml.etree import ElementTree

from header_filter import first_sentence
from site_pages import HTML, PAGES, ROOT, SITE, framed, is_documented, source_page

UNUSED = re.compile(
    r'(annotated|classes|files|functions.*|globals.*|hierarchy|namespaces|namespacemembers.*|pages|'
    r'concepts|.*_8md|.*-members|dir_.*)\.html|.*\.(png|js)|(doxygen|minusd?|plusd?)\.svg|tabs\.css|'
    r'(bdwn|closed|doc|folder|nav_|open|splitbar|sync_|tab_).*')
TITLE = re.compile(r'<div class="title">(.*?) (Class|Struct|Union|Concept|Namespace)( Template)? '
                   r'Reference.*?</div>')
NAMESPACES = re.compile(r'<table class="memberdecls">\s*<tr class="heading">(?:(?!</table>).)*'
                        r'name="namespaces".*?</table>', re.S)
NO_CODE = re.compile(r'(<a [^>]*>.*?</a>|<h\d.*?</h\d>|<div class="fragment">.*?</div><!-- fragment -->)',
                     re.S)
HEADING = re.compile(r'<h[12]><a class="anchor" id="([^"]+)"[^>]*></a>(.*?)</h[12]>', re.S)


def text_of(element, tag):
    found = element.find(tag)
    return (found.text or '') if found is not None else ''


def address(name):
    return name if name.endswith('.html') else name + '.html'


def plain(text):
    return html.unescape(re.sub(r'<[^>]*>', '', text)).strip()


class Names:
    """What Doxygen has found, by its tag file."""

    def __init__(self):
        self.headers = []  # [path, address]
        self.types = []  # [name, kind, address]
        self.members = []  # [name, of what, kind, address]
        self.functions_of = {}  # header: {name: address}
        self.types_of = {}
        for compound in ElementTree.parse(SITE / 'eigenheads.tag').getroot().findall('compound'):
            kind, name = compound.get('kind'), text_of(compound, 'name')
            where = address(text_of(compound, 'filename'))
            if kind == 'file':
                path = text_of(compound, 'path').rstrip('/') + '/' + name  # older ones write all of it
                path = 'include/' + path.rpartition('/include/')[2]
                if is_documented(path):
                    self.headers.append((path, where))
                    self.types_of[path] = [one.text for one in compound.findall('class')]
                    self.types_of[path] += [one.text for one in compound.findall('concept')]
                    self.functions_of[path] = self.members_of(compound)
            elif kind in ('class', 'struct', 'union', 'concept'):
                self.types.append((name, kind, where))
            if kind in ('class', 'struct', 'union', 'namespace', 'file'):
                owner = name.removeprefix('mpi::') if kind != 'namespace' else ''
                for member in compound.findall('member'):
                    self.members.append((text_of(member, 'name'), owner, member.get('kind'),
                                         f'{text_of(member, "anchorfile")}#{text_of(member, "anchor")}'))
        self.headers.sort()
        self.where = {name: where for name, _, where in self.types}

    @staticmethod
    def members_of(compound):
        found = {}
        for member in compound.findall('member'):
            if member.get('kind') in ('function', 'enumeration', 'typedef', 'variable'):
                found.setdefault(text_of(member, 'name'),
                                 f'{text_of(member, "anchorfile")}#{text_of(member, "anchor")}')
        return found


GROUPS = {'': 'Attention: <code>eigenheads/</code>', 'layer': 'The parts of the layer that you meet',
          'nn': 'Transformers and what they are made of: <code>nn/</code>',
          'train': 'Optimizers: <code>train/</code>', 'io': 'Files: <code>io/</code>',
          'plot': 'Pictures: <code>plot/</code>', 'mpi': 'Many machines: <code>mpi/</code>'}


def write_reference(names):
    body = ['<p>Each header with the names that it has. <code>&lt;eigenheads/eigenheads.hpp&gt;</code> '
            'includes those of the first list that are not opt-in.</p>']
    for group, title in GROUPS.items():
        body.append(f'<h2 id="{group or "attention"}">{title}</h2>\n<dl class="headers">')
        for path, where in names.headers:
            inner = path.removeprefix('include/eigenheads/')
            if (inner.rpartition('/')[0]) != group:
                continue
            links = [(name.split('::')[-1], names.where[name]) for name in names.types_of[path]
                     if name in names.where and 'detail::' not in name and
                     '::' not in name.removeprefix('mpi::')]
            links += sorted(names.functions_of[path].items())
            if not links and inner.rpartition('/')[2] not in ('eigenheads.hpp', 'prebuilt.hpp'):
                continue  # details alone
            brief = first_sentence((ROOT / path).read_text(encoding='utf-8').split('\n'))
            shown = ' '.join(f'<a href="{address}"><code>{html.escape(name)}</code></a>'
                             for name, address in links)
            body.append(f'<dt><a href="{where}"><code>{inner}</code></a></dt>'
                        f'<dd>{html.escape(brief).replace("`", "")}<br/>{shown}</dd>')
        body.append('</dl>')
    (HTML / 'reference.html').write_text(framed('Headers and names', '\n'.join(body), 0),
                                         encoding='utf-8')


def write_listings():
    for path in (SITE / 'sources.txt').read_text(encoding='utf-8').split():
        lines = (ROOT / path).read_text(encoding='utf-8').rstrip('\n').split('\n')
        listing = ''.join(f'<span class="line" id="L{number}">{html.escape(line) or " "}</span>'
                          for number, line in enumerate(lines, 1))
        page = HTML / source_page(path)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(framed(path, f'<pre class="listing">{listing}</pre>', path.count('/') + 1),
                        encoding='utf-8')


def finish_pages(names):
    """Names of classes and functions in code become links; returns the pages' headings."""
    pages_of_headers = dict(names.headers)
    known = {}
    for name, _, where in names.types:
        known.setdefault(name.removeprefix('mpi::'), where)
        known[name] = where
    for functions in names.functions_of.values():
        for name, where in functions.items():
            if '_' in name or name in ('explain', 'generate', 'pack', 'unpack', 'chain'):
                known.setdefault(name, where)
    headings = []
    for name in PAGES.values():
        path = HTML / f'{name}.html'
        text = re.sub(r'href="header/([^"#]+)"', lambda m: f'href="{pages_of_headers[m[1]]}"',
                      path.read_text(encoding='utf-8'))

        def linked(match):
            where = known.get(html.unescape(match[1]))
            return f'<a href="{where}">{match[0]}</a>' if where else match[0]

        parts = NO_CODE.split(text)
        for i in range(0, len(parts), 2):
            parts[i] = re.sub(r'<code>([^<]+)</code>', linked, parts[i])
        text = ''.join(parts)
        title = re.search(r'<div class="title">(.*?)(<small>.*?)?</div>', text, flags=re.S)
        title = plain(title[1]) if title else 'Overview'
        if name == 'index':
            title = 'Overview'
            text = re.sub(r'<title>.*?</title>', '<title>Eigenheads</title>', text)
        path.write_text(text, encoding='utf-8')
        headings.append([title, 'page', f'{name}.html'])
        headings += [[plain(heading), title, f'{name}.html#{anchor}']
                     for anchor, heading in HEADING.findall(text)]
    headings.append(['Headers and names', 'page', 'reference.html'])
    return headings


def write_search(names, headings):
    entries = list(headings)
    entries += [[name.split('::')[-1], kind, where] for name, kind, where in names.types
                if 'detail::' not in name]
    entries += [[path.removeprefix('include/eigenheads/'), 'header', where]
                for path, where in names.headers]
    seen = set()
    for name, owner, kind, where in names.members:
        if (name, owner) in seen or 'detail::' in owner or name.startswith('~'):
            continue
        if owner and owner.split('::')[-1] == name:
            continue  # constructors
        seen.add((name, owner))
        entries.append([name, owner.split('::')[-1] or kind, where])
    text = json.dumps(entries, ensure_ascii=False, separators=(',', ':')).replace('],[', '],\n[')
    (HTML / 'search_index.js').write_text(f"'use strict';\nconst searchIndex = {text};\n", encoding='utf-8')


def tidy(names):
    for path in HTML.iterdir():
        if UNUSED.fullmatch(path.name):
            path.unlink()
    left = {path.name for path in HTML.iterdir()}
    # Doxygen takes some words for names that they are not: of a member, a link has its name, and in
    # code, which has variables of its own, one that no variable has.
    named = {where: name for name, _, _, where in names.members}

    def kept(match):
        kind, file, anchor, text = match.groups()
        is_name = named.get(file + anchor, '') in text
        is_known = kind == 'el' or re.search('[A-Z_/]|::', text) and 'std::' not in text
        return match[0] if file in left and is_name and is_known else text

    for path in HTML.glob('*.html'):
        text = path.read_text(encoding='utf-8')
        text = re.sub(r'<a class="(el|code[^"]*)" href="([^"#]*)([^"]*)"[^>]*>(.*?)</a>', kept, text)
        text = re.sub(r'(&#124;\s*)?<a href="[^"]*-members\.html">.*?</a>', '', text)
        text = re.sub(r'<div class="ttc".*?</div></div>\n?', '', text, flags=re.S)
        text = TITLE.sub(lambda m: f'<div class="title">{m[1]} <small>{m[2].lower()}</small></div>', text)
        if 'id="nested-classes"' not in text:  # those that are private
            text = re.sub(r'<a href="#nested-classes">\w+</a>( &#124;)?', '', text)
        path.write_text(text, encoding='utf-8')
    for path, where in names.headers:
        text = (HTML / where).read_text(encoding='utf-8')
        text = NAMESPACES.sub('', text)
        text = re.sub(r'<a href="#namespaces">\w+</a>( &#124;)?', '', text)
        link = f'<p class="source"><a href="{source_page(path)}">The header itself</a></p>'
        text = text.replace('<div class="contents">', f'<div class="contents">\n{link}', 1)
        text = text.replace(' File Reference</div>', '</div>').replace(' File Reference', '')
        (HTML / where).write_text(text, encoding='utf-8')


names = Names()
tidy(names)
write_listings()
write_reference(names)
write_search(names, finish_pages(names))
shutil.copy(ROOT / '.docs/site.js', HTML / 'site.js')
