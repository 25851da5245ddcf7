"""HTML reports: one self-contained file per executed notebook, readable offline and printable."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

_STYLE = """
body { font: 16px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; color: #1b1f24; max-width: 62rem;
       margin: 2rem auto; padding: 0 1.25rem; }
h1, h2, h3 { line-height: 1.25; margin: 2.2rem 0 .6rem; }
h1 { font-size: 1.9rem; margin-top: 0; } h2 { font-size: 1.35rem; } h3 { font-size: 1.1rem; }
pre, code { font: 13px/1.45 ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; }
div.input, .jp-InputArea { background: #f6f7f9; border-left: 3px solid #d5d9e0; padding: .15rem .8rem; margin: .8rem 0;
       overflow-x: auto; }
.prompt, .jp-InputPrompt, .jp-OutputPrompt { display: none; }
.jp-RenderedText pre, div.output pre { color: #4a5260; white-space: pre-wrap; overflow-wrap: anywhere; }
img, svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: 14px; margin: .8rem 0; font-variant-numeric: tabular-nums; }
table { border: 0; } th, td { padding: .28rem .7rem; border: 0; border-bottom: 1px solid #e3e6eb; text-align: right; }
th { border-bottom: 2px solid #c4cad3; } td:first-child, th:first-child { text-align: left; }
.anchor-link { display: none; }
@media print { body { max-width: none; margin: 0; font-size: 11pt; } div.input, .jp-InputArea { break-inside: avoid; }
       img, table { break-inside: avoid; } }
@media (max-width: 40rem) { body { margin: 1rem auto; } table { display: block; overflow-x: auto; } }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}{highlighting}</style>
</head>
<body>
{body}
</body>
</html>
"""


def write_html(notebook: Path) -> Path:
    """Convert an executed notebook to an HTML file next to it.

    The file contains all figures and styles and loads nothing from a network.

    Parameters
    ----------
    notebook
        An ``.ipynb`` file; it may be executed only in part.

    Returns
    -------
    Path
        The ``.html`` file.
    """
    content = nbformat.read(notebook, as_version=4)
    for cell in content.cells:
        # Progress bars and log messages remain in the executed notebook, but do not belong in a report.
        cell["outputs"] = [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]
    # Of nbconvert's templates, only "basic" does not load scripts from a network.
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(content)
    page = _PAGE.format(
        title=f"{notebook.parent.name} {notebook.stem}",
        style=_STYLE,
        highlighting=HtmlFormatter(style="default").get_style_defs(".highlight"),
        body=body,
    )
    path = notebook.with_suffix(".html")
    path.write_text(page, encoding="utf-8")
    return path
