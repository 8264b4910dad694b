# SPDX-License-Identifier: MIT
"""Headers as Doxygen is to read them, with as many lines.

The house writes plain comments, above what they are about or behind it. Here they become Doxygen's:
those of the file, of what stands in the namespace, and of what stands in a class and is not private.
Of namespaces `detail`, nothing is left but the public bases of public classes, and `eigenheads` is
left out, so that functions are described where their header is. A declaration right
below another of that name is its overload, and a class that the header is named after has
the header's comment, or its first sentence before its own. `// ---- Title ----` begins a group of members.
"""
import re

PUBLIC_BASES = {'StepCalls', 'KeyValueCalls', 'NormLayer', 'Norm', 'TransformerStack', 'StackGradients',
                'ContiguousView'}
CLASS = re.compile(r'( *)(?:class|struct|union|enum(?: class)?) (\w+)')
TRAILING = re.compile(r'(.*[^ /]) +// (.*)')
SECTION = re.compile(r' *// ---- (.*?) -+$')
ENTITIES = {'&': '&amp;', '<': '&lt;', '>': '&gt;'}  # not within quotes, where Doxygen shows them
PARAGRAPH = re.compile(r'(An?|[A-Z][a-z]+)[ ,]')


def in_markdown(text):
    """A comment's text so that Doxygen shows it as it stands; shapes as code."""
    parts = re.split(r'(`[^`]*`)', text)
    for i in range(0, len(parts), 2):
        around = re.split(r'([\w.]*\[[^\[\]]*\]|[\w<>]+::\w+\(\))', parts[i])
        for j in range(len(around)):
            if j % 2:
                around[j] = f'`{around[j]}`'
            else:
                around[j] = re.sub(r'[\\@#%]', r'\\\g<0>', around[j])
                around[j] = re.sub('[&<>](?=[^"]*(?:"[^"]*"[^"]*)*$)', lambda m: ENTITIES[m[0]], around[j])
                around[j] = re.sub(r'(?<=\w)\*(?=\w)', '&lowast;', around[j])
        parts[i] = ''.join(around)
    return ''.join(parts)


def as_documentation(texts):
    """The lines of a comment, without their slashes: those that are set off to the right are shown
    as they stand, unless they begin a paragraph."""
    lines = []
    verbatim = False
    for number, text in enumerate(texts):
        shifted = text.startswith('   ')
        set_off = shifted and not (PARAGRAPH.match(text[3:]) and not verbatim and ' = ' not in text)
        if set_off and not verbatim:
            lines.append(r'\verbatim ' + text[3:])
        elif set_off:
            lines.append(text[3:])
        else:
            if verbatim:
                lines[-1] += r' \endverbatim'
            lines.append(('<p>' if shifted else '') + in_markdown(text.strip()))
        verbatim = set_off
    if verbatim:
        lines[-1] += r' \endverbatim'
    return lines


def in_snake_case(name):
    return re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', name).lower()


def indent(line):
    return len(line) - len(line.lstrip(' '))


def is_comment(line):
    return line.lstrip().startswith('//')


def first_sentence(lines):
    """Of a header's comment."""
    end = 2
    while is_comment(lines[end]):
        end += 1
    text = ' '.join(line[3:] for line in lines[2:end])
    return re.match(r'.*?[.:](?= |$)|.*', text)[0].rstrip('.:') + '.'


def without_details(lines):
    """Namespaces `detail` are emptied, but for the public bases."""
    inside = kept = False
    for i, line in enumerate(lines):
        if re.match(r'namespace .*\bdetail\b.*\{$', line):
            inside = lines[i + 2] != '}'  # else it is a declaration alone
        elif re.match(r'\}  // namespace .*\bdetail\b', line):
            inside = False
        elif inside:
            if not kept and line and indent(line) == 0:
                end = i  # a comment and the head of a template belong to what follows
                while end < len(lines) and (is_comment(lines[end]) or
                                            re.match(r'template|requires', lines[end])):
                    end += 1
                match = CLASS.match(lines[end])
                kept = bool(match and match[2] in PUBLIC_BASES and not lines[end].endswith(';'))
            if not kept:
                lines[i] = ''
            elif line == '};':
                kept = False


class Filter:
    def __init__(self, lines):
        self.lines = lines
        self.out = list(lines)
        self.classes = []  # of those around: the indent of their members, and whether they are public
        self.group = 0  # how deep in classes the open group of members is

    def members(self):
        return self.classes[-1][0] if self.classes else 0

    def is_public(self):
        return all(public for _, public in self.classes)

    def comment_at(self, i):
        """The end of the comment whose first line is i."""
        end = i
        while end < len(self.lines) and is_comment(self.lines[end]):
            end += 1
        return end

    def document(self, i, end, first=''):
        pad = ' ' * indent(self.lines[i])
        texts = as_documentation([line.lstrip()[2:] for line in self.lines[i:end]])
        for number, text in enumerate(texts):
            self.out[i + number] = f'{pad}/// {text}' if text else f'{pad}///'

    def close_group(self, i):
        """Before line i, which ends a class or its public part, or begins the next group."""
        if not self.group or len(self.classes) != self.group:
            return
        if self.lines[i - 1]:
            self.out[i] = '/** @} */ ' + self.out[i].lstrip()
        else:
            self.out[i - 1] = '/// @}'
        self.group = 0

    def run(self, path):
        lines, out = self.lines, self.out
        i = 0
        inner = path.as_posix().rpartition('/include/')[2]
        out[0] = ''
        if lines[1] == '#pragma once' and is_comment(lines[2]):
            end = self.comment_at(2)
            self.document(2, end)
            out[1] = r'/// \file'
            i = end
        documented = None  # the name that the last comment is about
        fresh = False  # right below a comment
        while i < len(lines):
            line = lines[i]
            if not line or indent(line) < self.members():
                if line.lstrip().startswith('};') and self.classes:
                    self.close_group(i)
                    self.classes.pop()
                elif re.match(r' *(public|private|protected):', line):
                    if 'public' not in line:
                        self.close_group(i)
                    self.classes[-1][1] = 'public' in line
                documented, fresh = None, False
                i += 1
                continue
            if not self.is_public() or indent(line) > self.members() or line[0] in '#}':
                i += 1
                continue
            if is_comment(line):
                end = self.comment_at(i)
                section = SECTION.match(line)
                if section:
                    self.close_group(i)
                    if self.classes and end < len(lines) and not lines[end]:
                        self.document(i, end)
                        out[i] = f'{" " * indent(line)}/// \\name {in_markdown(section[1])}'
                        out[end] = '/// @{'
                        self.group = len(self.classes)
                elif end < len(lines) and lines[end]:
                    self.document(i, end)
                    fresh, above = True, i
                i = end
                continue
            begin = i
            i = self.declaration(i, documented, fresh)
            if self.klass and in_snake_case(self.klass) == path.stem:
                if fresh:
                    out[above] = out[above].replace('/// ', f'/// {in_markdown(first_sentence(lines))} ', 1)
                else:
                    out[begin] = f'/** \\copydoc {inner} */ {out[begin]}'
            if fresh:
                documented = self.name
            fresh = False
        return out

    def declaration(self, i, documented, fresh):
        """The one that begins at line i; the line after what may be skipped of it."""
        lines, out = self.lines, self.out
        level = self.members()
        end, head = i, ''
        while True:  # to the line that ends the head
            code = TRAILING.match(lines[end])
            code = code[1] if code else lines[end]
            head += ' ' + code.strip()
            if code.endswith((';', '{', '}', ',')) and (indent(lines[end]) == level or
                                                      code.endswith((';', '{', '}'))):
                break
            if end + 1 == len(lines) or not lines[end + 1] or re.match(r' *(//|\})', lines[end + 1]):
                break
            end += 1
        plain = re.sub(r'\[\[.*?\]\]|EIGEN_ALWAYS_INLINE|requires ?\(.*?\)(?= [a-zA-Z])', '', head)
        plain = re.sub(r'^ template <.*?> (?=[a-z\[])', '', plain)
        match = re.search(r'(operator *\(\)|operator *[^\s\w(]+|~?\w+)\s*\(', plain)
        klass = CLASS.search(' ' + plain)
        self.klass = klass[2] if klass and level == 0 and head.endswith('{') else None
        self.name = match[1] if match and not re.match(r' *(class|struct|enum)', plain) else None

        if not fresh and self.name and self.name == documented and '= delete' not in head:
            out[i] = ' ' * level + r'/** \overload */ ' + lines[i].lstrip()
        trailing = TRAILING.match(lines[end])
        has_trailing = trailing and trailing[1].count('"') % 2 == 0
        if has_trailing and not fresh and not trailing[1].endswith('{'):
            out[end] = f'{trailing[1]}  ///< {in_markdown(trailing[2])}'
            while is_comment(lines[end + 1]) and indent(lines[end + 1]) > level:
                end += 1
                out[end] = f'{" " * level}///< {in_markdown(lines[end].strip()[3:])}'
        if re.match(r' *(template <.*>)? *(requires.*)? *(class|struct|enum|union) ', plain) and klass:
            if head.endswith('{'):
                self.classes.append([level + 2, 'class ' not in plain or 'enum class' in plain])
        return end + 1


def filtered(path):
    lines = path.read_text(encoding='utf-8').split('\n')
    without_details(lines)
    out = Filter(lines).run(path)
    for i, line in enumerate(out):
        if re.match(r'(namespace|\}  // namespace) eigenheads::inline EIGENHEADS_ABI( \{)?$', line):
            line = ''
        line = line.replace('eigenheads::inline EIGENHEADS_ABI::', '')
        if re.match('#include .*[.]inl', line):
            line = ''
        if not line.lstrip().startswith('///'):
            line = re.sub(r'EIGEN_ALWAYS_INLINE ', '', line)
        out[i] = line
        if line.startswith('// ') and out[i + 1] and not is_comment(out[i + 1]):
            raise SystemExit(f'{path}:{i + 1}: this comment was taken for none of what is below it')
    return '\n'.join(out)
