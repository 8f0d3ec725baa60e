"""What a report is made of, and its two forms: one HTML file that needs nothing else, and Markdown without figures.

Every text of a block is plain: it is escaped where it is rendered, so that no name from data is markup in either form.
"""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from helpers.analysis import tables

_SCOPE = {"th": ' scope="col"'}
_LONG = 32  # letters of a cell of text that may be broken into lines
_BROAD = 800  # pixels across, above which a figure would be too small to read on a phone
_PIXELS_A_CSS_PIXEL = 2  # figures have twice the pixels of their place, for sharp screens and print
STYLE = """
:root { color-scheme: light dark; --text: #1c1c1c; --quiet: #5a5a5a; --page: #fff; --rule: #e6e6e6; --strong: #444;
  --link: #005f94; --code: #f5f6f7; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e6e6; --quiet: #a8a8a8; --page: #16181b; --rule: #33373c;
  --strong: #9a9a9a; --link: #7cc4f0; --code: #22262b; --accent: #56b4e9; } figure img { border-radius: 6px; } }
body { font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; color: var(--text);
  background: var(--page); margin: 0 auto; max-width: 74rem; padding: 2rem 1.5rem 5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.35rem; margin: 2.4rem 0 .8rem; padding-top: .8rem; border-top: 2px solid var(--accent); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .5rem; overflow-wrap: anywhere; }
p, li { max-width: 46rem; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: 1rem 0 0; }
a { color: var(--link); }
.opening { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 0 2rem; align-items: start; }
.opening p { font-size: 1.08rem; margin: 0 0 .8rem; } .opening figure { margin: 0; max-width: 41.5rem; }
@media (max-width: 72rem) { .opening { grid-template-columns: minmax(0, 1fr); } }
figure { margin: 1.2rem 0; break-inside: avoid; }
figure img { max-width: 100%; height: auto; display: block; background: #fff; }
figcaption, caption { color: var(--quiet); font-size: .88rem; text-align: left; margin: .3rem 0; max-width: 46rem; }
caption { caption-side: top; padding-bottom: .3rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
th { border-bottom: 1.5px solid var(--strong); font-weight: 600; vertical-align: bottom; }
td.text, th.text { text-align: left; }
td.long { white-space: normal; min-width: 17rem; }
tr:last-child td { border-bottom: 1.5px solid var(--strong); }
pre { background: var(--code); padding: .6rem 1rem; font-size: .85rem; white-space: pre-wrap; overflow-wrap: anywhere;
  max-width: 60rem; margin: .4rem 0 1rem; }
@media (max-width: 46rem) { body { padding: 1rem .9rem 3rem; } h1 { font-size: 1.5rem; }
  figure img.broad { max-width: none; width: 42rem; } }
@media print { body { max-width: none; padding: 0; font-size: 11px; } nav { display: none; }
  .wide { overflow: visible; } h2, h3 { break-after: avoid; } table { font-size: 8px; }
  th, td { padding: .15rem .3rem; white-space: normal; } }
"""


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Heading:
    """A heading below a section's."""

    text: str


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Code:
    """A command as it is typed."""

    text: str


@dataclass(frozen=True)
class Table:
    """A frame with a line that says what it holds; formatted as the tables of `tables`."""

    frame: pd.DataFrame
    caption: str
    headings: tables.Headings


@dataclass(frozen=True)
class Picture:
    """A figure as PNG; in Markdown its file name in the storage stands for it."""

    png: bytes
    name: str
    caption: str
    alt: str = ""
    """What it shows, for those who do not see it; empty: the caption, and where its numbers are."""


@dataclass(frozen=True)
class Opening:
    """What was found in a few sentences, with the figure that shows it beside them where the page is wide."""

    sentences: Sequence[str]
    picture: Picture | None


Block = Text | Heading | Points | Code | Table | Picture | Opening


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        return self.title.lower().replace(" ", "-")


def to_html(title: str, lead: str, sections: Sequence[Section]) -> str:
    """One HTML document: style and figures inside, no script, and nothing from elsewhere, which its policy forbids."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    links = "\n".join(f'<a href="#{_plain(part.anchor)}">{_plain(part.title)}</a>' for part in sections)
    body = "\n".join(_html_section(section) for section in sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="{policy}"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{_plain(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{_plain(title)}</h1>
<p>{_plain(lead)}</p>
<nav>
{links}
</nav>
</header>
<main>
{body}
</main>
</body>
</html>
"""


def to_markdown(title: str, lead: str, sections: Sequence[Section]) -> str:
    parts = [f"# {tables.escaped(title)}", tables.escaped(lead)]
    for section in sections:
        parts += [f"## {tables.escaped(section.title)}", *map(_markdown_block, section.blocks)]
    return "\n\n".join(parts) + "\n"


def _html_section(section: Section) -> str:
    blocks = "\n".join(_html_block(block) for block in section.blocks)
    return f'<section id="{_plain(section.anchor)}">\n<h2>{_plain(section.title)}</h2>\n{blocks}\n</section>'


def _html_block(block: Block) -> str:
    match block:
        case Text(text):
            return f"<p>{_plain(text)}</p>"
        case Heading(text):
            return f"<h3>{_plain(text)}</h3>"
        case Points(texts):
            return "<ul>\n" + "\n".join(f"<li>{_plain(text)}</li>" for text in texts) + "\n</ul>"
        case Code(text):
            return f"<pre><code>{_plain(text)}</code></pre>"
        case Table():
            return _html_table(block)
        case Picture():
            return _html_picture(block)
        case Opening(sentences, picture):
            said = "\n".join(f"<p>{_plain(sentence)}</p>" for sentence in sentences)
            return f'<div class="opening">\n<div>\n{said}\n</div>\n{_html_picture(picture) if picture else ""}\n</div>'


def _html_picture(picture: Picture) -> str:
    """In a box that scrolls where the screen is narrow, so that its letters stay readable."""
    data = base64.b64encode(picture.png).decode("ascii")
    width = int.from_bytes(picture.png[16:20], "big") // _PIXELS_A_CSS_PIXEL
    alt = picture.alt or f"{picture.caption} The numbers are in fig/{picture.name.removesuffix('.png')}.csv."
    broad = ' class="broad"' if width > _BROAD else ""
    image = f'<img alt="{_plain(alt)}"{broad} width="{width}" src="data:image/png;base64,{data}"/>'
    box = f'<div class="wide" tabindex="0" role="group" aria-label="{_plain(picture.name)}">{image}</div>'
    return f"<figure>\n{box}\n<figcaption>{_plain(picture.caption)}</figcaption>\n</figure>"


def _html_table(table: Table) -> str:
    if table.frame.empty:
        return f"<p>{_plain(table.caption)}: none.</p>"
    headings, rows, is_text = tables.cells(table.frame, str, table.headings)
    body = "\n".join(f"<tr>{_html_cells('td', row, is_text)}</tr>" for row in rows)
    return f"""<div class="wide" tabindex="0" role="group" aria-label="{_plain(table.caption)}">
<table>
<caption>{_plain(table.caption)}</caption>
<thead><tr>{_html_cells("th", headings, is_text)}</tr></thead>
<tbody>
{body}
</tbody>
</table>
</div>"""


def _html_cells(tag: str, row: Sequence[str], is_text: Sequence[bool]) -> str:
    return "".join(
        f"<{tag}{_SCOPE.get(tag, '')}{_html_class(cell, text)}>{_plain(cell)}</{tag}>"
        for cell, text in zip(row, is_text, strict=True)
    )


def _html_class(cell: str, is_text: bool) -> str:
    if not is_text:
        return ""
    return ' class="text long"' if len(cell) > _LONG else ' class="text"'


def _markdown_block(block: Block) -> str:
    match block:
        case Text(text):
            return tables.escaped(text)
        case Heading(text):
            return f"### {tables.escaped(text)}"
        case Points(texts):
            return "\n".join(f"- {tables.escaped(text)}" for text in texts)
        case Code(text):
            return "\n".join(f"    {line}" for line in text.splitlines())
        case Table(frame, caption, headings):
            return f"{tables.escaped(caption)}:\n\n{tables.markdown(frame, headings)}"
        case Picture(_, name, caption):
            return f"Figure fig/{tables.escaped(name)}: {tables.escaped(caption)}"
        case Opening(sentences, picture):
            said = [tables.escaped(sentence) for sentence in sentences]
            return "\n\n".join([*said, *([_markdown_block(picture)] if picture else [])])


def _plain(text: str) -> str:
    """Text as HTML shows it, in one line, without what XML forbids."""
    return html.escape("".join(letter if letter.isprintable() or letter in "\n\t" else " " for letter in text))
