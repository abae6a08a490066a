"""Hooks of the site (mkdocs.yml): the notebooks of docs/tutorials as pages, text and code; pictures
of the lab (tools/over_optimization.py) that no run has made yet are said to be missing, where a
link to one would stop the build."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


def markdown(notebook: Path) -> str:
    """A notebook's cells as Markdown, and where it can be had."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    parts = [_cell(cell) for cell in cells]
    parts.insert(1, f"[The notebook]({notebook.name}), to be run.")
    return "\n\n".join(parts) + "\n"


def _cell(cell: dict[str, Any]) -> str:
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return text
    language = "sh" if text.startswith("!") else "python"
    return f"```{language}\n{text.removeprefix('!')}\n```"


def on_files(files: Any, config: Any) -> Any:
    """MkDocs asks for the site's files: a page for each notebook is among them."""
    from mkdocs.structure.files import File

    for notebook in sorted(Path(config["docs_dir"], "tutorials").glob("*.ipynb")):
        name = f"tutorials/{notebook.stem}.md"
        files.append(File.generated(config, name, content=markdown(notebook)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """MkDocs hands over a page's text: a picture of the lab's that is not there is told by name."""

    def picture(match: re.Match[str]) -> str:
        there = Path(config["docs_dir"], match["place"]).is_file()
        return match[0] if there else f"*{match['title']}: the picture has not been made yet.*"

    return re.sub(r"!\[(?P<title>[^\]]*)\]\((?P<place>images/lab-[\w-]+\.svg)\)", picture, markdown)
