"""A comparison as one HTML file: a table that can be sorted, pictures and notes. It needs no network."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence

from tiedexp.compare.columns import Column, find_style
from tiedexp.compare.comparison import Comparison
from tiedexp.compare.gallery import Picture
from tiedexp.compare.notes import list_notes


def build_page(comparison: Comparison, columns: Sequence[Column], pictures: Sequence[Picture], title: str) -> str:
    """Write the page as HTML.

    Args:
        comparison: the comparison to show.
        columns: the columns of the table.
        pictures: the pictures that `draw_pictures` returns.
        title: the title of the page.
    """
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    figures = [picture for picture in pictures if not picture.name.startswith("kernels")]
    kernels = [picture for picture in pictures if picture.name.startswith("kernels")]
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in list_notes(comparison, columns))
    text = html.escape(title)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{text}</h1>
<div class="wide">{_build_table(comparison, columns)}</div>
<ul class="notes">{notes}</ul>
{"".join(map(_build_figure, figures))}
<h2>Kernels before and after training</h2>
<p>The first tied convolution of one run of each variant, or the first convolution if none is tied: its pattern, its
kernels before training, and the same kernels after the best epoch. Each picture has its own scale.</p>
<div class="grid">{"".join(map(_build_figure, kernels))}</div>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _build_table(comparison: Comparison, columns: Sequence[Column]) -> str:
    kinds = {column.key: ' class="number"' if column.is_number else "" for column in columns}
    head = "".join(
        f'<th scope="col"{kinds[column.key]}><button>{_break(column.title)}</button></th>' for column in columns
    )
    body = []
    for row in comparison.rows:
        cells = []
        for column in columns:
            value = column.value(row)
            order = "" if value is None else html.escape(str(value))
            colour = find_style(column, row)
            text = html.escape(column.text(row))
            shown = f'<span class="{colour}">{text}</span>' if colour else text
            cells.append(f'<td{kinds[column.key]} data-value="{order}">{shown}</td>')
        baseline = ' class="baseline"' if row.label == comparison.baseline else ""
        body.append(f"<tr{baseline}>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _break(title: str) -> str:
    """A heading that can be broken after its slash."""
    return html.escape(title).replace("/", "/<wbr>")


def _build_figure(picture: Picture) -> str:
    title, caption = html.escape(picture.title), html.escape(picture.caption)
    image = picture.svg
    if not image and picture.png:
        data = base64.b64encode(picture.png).decode()
        image = f'<img class="paper" alt="{title}" src="data:image/png;base64,{data}">'
    heading = "" if picture.name.startswith("kernels") and picture.png else f"<h2>{title}</h2>"
    return f"<figure>{heading}{image}<figcaption>{caption}</figcaption></figure>"


_STYLE = """
:root { --ink: #1b1f24; --paper: #ffffff; --line: #d5d9de; --faint: #5b6470; --good: #00704f; --bad: #b04a00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --paper: #15181c; --line: #3a4048; --faint: #a2abb6; --good: #35c79a; --bad: #ff9d5c; }
}
body { color: var(--ink); background: var(--paper); font: 15px/1.5 system-ui, sans-serif; max-width: 82rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .85rem; }
th, td { padding: .3rem .45rem; text-align: left; border-bottom: 1px solid var(--line); }
td { white-space: nowrap; } th.number, td.number { text-align: right; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible { outline: 2px solid currentColor; }
th[aria-sort=ascending] button::after { content: " \\25B2"; }
th[aria-sort=descending] button::after { content: " \\25BC"; }
tr.baseline { font-weight: 600; } tbody tr:hover { background: color-mix(in srgb, var(--ink) 7%, transparent); }
.green { color: var(--good); font-weight: 600; } .red { color: var(--bad); font-weight: 600; }
.dim { color: var(--faint); }
.notes, figcaption, p { color: var(--faint); font-size: .88rem; }
figure { margin: 0; } figure svg { max-width: 56rem; width: 100%; height: auto; display: block; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 36rem), 1fr)); gap: 1rem; }
img.paper { background: #fff; border-radius: 6px; max-width: 100%; border: 1px solid var(--line);
  box-sizing: border-box; }
"""

_SCRIPT = """
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, body = head.closest("table").tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.cells[head.cellIndex].dataset.value;
    const order = (a, b) => head.classList.contains("number") ? Number(a) - Number(b) : a.localeCompare(b);
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return down ? order(y, x) : order(x, y);
    });
    body.append(...rows);
  });
}
"""
