"""A report as sections of text, tables and figures, written as Markdown and as one self-contained HTML file.

Knows nothing of scores. Everything that came from outside is escaped; figures are embedded, one for light and one for dark
screens, so the HTML file needs nothing beside it.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        columns: Heads; a head that starts with ">" is set flush right.
        rows: Cells as text.
        caption: What the table shows.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""

    @property
    def heads(self) -> tuple[tuple[str, bool], ...]:
        """Each head without its mark, and whether it is set flush right."""
        return tuple((head.removeprefix(">"), head.startswith(">")) for head in self.columns)


@dataclass(frozen=True)
class Figure:
    """A plot, drawn twice.

    Attributes:
        light: SVG for light screens.
        dark: SVG for dark screens.
        caption: What it shows, also read out in its place.
    """

    light: bytes
    dark: bytes
    caption: str


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: Heading.
        paragraphs: Plain text.
        grids: Tables.
        figures: Plots.
        folded: Shown closed in HTML, for long tables.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    grids: tuple[Grid, ...] = ()
    figures: tuple[Figure, ...] = ()
    folded: bool = False


def as_markdown(title: str, sections: Sequence[Section]) -> str:
    """Write a report as Markdown; figures become their captions."""
    lines = [f"# {_flat(title)}", ""]
    for section in sections:
        lines += [f"## {_flat(section.title)}", ""]
        for paragraph in section.paragraphs:
            lines += [_flat(paragraph), ""]
        for grid in section.grids:
            lines += [*_markdown_grid(grid), ""]
        for figure in section.figures:
            lines += [f"*(figure in report.html: {_flat(figure.caption)})*", ""]
    return "\n".join(lines)


def _flat(text: str) -> str:
    """Keep a text on one line and its marks harmless."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _markdown_grid(grid: Grid) -> list[str]:
    lines = [f"**{_flat(grid.caption)}**", ""] if grid.caption else []
    lines.append("| " + " | ".join(_flat(head) for head, _ in grid.heads) + " |")
    lines.append("|" + "|".join("---:" if right else "---" for _, right in grid.heads) + "|")
    lines += ["| " + " | ".join(_flat(cell) for cell in row) + " |" for row in grid.rows]
    return lines


def as_html(title: str, sections: Sequence[Section]) -> str:
    """Write a report as one HTML file that loads nothing."""
    body = "\n".join(_section(section) for section in sections)
    safe = html.escape(title)
    return _PAGE.replace("{title}", safe).replace("{style}", _STYLE).replace("{body}", body)


def _section(section: Section) -> str:
    parts = [f"<p>{html.escape(text)}</p>" for text in section.paragraphs]
    parts += [_figure(figure) for figure in section.figures]
    parts += [_grid(grid) for grid in section.grids]
    content, heading = "\n".join(parts), html.escape(section.title)
    if section.folded:
        return f"<details><summary>{heading}</summary>\n{content}\n</details>"
    return f"<section><h2>{heading}</h2>\n{content}\n</section>"


def _grid(grid: Grid) -> str:
    rights = [right for _, right in grid.heads]
    head = "".join(_cell("th", text, right) for text, right in grid.heads)
    rows = "\n".join(
        "<tr>"
        + "".join(_cell("td", cell, right) for cell, right in zip(row, rights, strict=True))
        + "</tr>"
        for row in grid.rows
    )
    caption = f"<caption>{html.escape(grid.caption)}</caption>" if grid.caption else ""
    return f'<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>'


def _cell(tag: str, text: str, right: bool) -> str:
    mark = ' class="right"' if right else ""
    return f"<{tag}{mark}>{html.escape(text)}</{tag}>"


def _figure(figure: Figure) -> str:
    caption = html.escape(figure.caption)
    return (
        f'<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{_uri(figure.dark)}">'
        f'<img src="{_uri(figure.light)}" alt="{caption}"></picture><figcaption>{caption}</figcaption></figure>'
    )


def _uri(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""

_STYLE = """
:root { --paper: #ffffff; --ink: #1c2024; --soft: #5f6670; --line: #dfe3e8; --band: #f5f7f9; --accent: #1a6b4a; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15181b; --ink: #e4e7ea; --soft: #9aa3ad; --line: #30363c; --band: #1c2024; --accent: #6fc79f; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-bottom: .25rem; border-bottom: 2px solid var(--accent); }
p { max-width: 50rem; margin: .5rem 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: .8rem 0 1.2rem; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding: .2rem 0; }
th, td { text-align: left; padding: .28rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top;
  max-width: 42rem; overflow-wrap: break-word; }
th:first-child, td:first-child { white-space: nowrap; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
tbody tr:nth-child(even) { background: var(--band); }
.right { text-align: right; white-space: nowrap; }
figure { margin: 1rem 0; overflow-x: auto; }
figure img { display: block; width: 100%; min-width: 36rem; max-width: 52rem; height: auto; }
figcaption { color: var(--soft); font-size: .88rem; max-width: 50rem; margin-top: .3rem; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0; padding: 0 .9rem; }
details[open] { padding-bottom: .6rem; }
summary { cursor: pointer; padding: .5rem 0; font-weight: 600; }
@media print { details { border: 0; } }
"""
