"""A hook of mkdocs: a link to a file outside docs/ leads to it in the repository."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]


def on_page_markdown(markdown: str, page: "Page", config: "MkDocsConfig", files: object) -> str:
    """Return the page with links that leave docs/ as addresses of the repository."""
    folder = Path(str(page.file.abs_src_path)).parent

    def address(match: re.Match[str]) -> str:
        target = (folder / match[1]).resolve()
        if target.is_relative_to(ROOT / "docs") or not target.exists():
            return match[0]
        return f"]({config.repo_url}/blob/main/{target.relative_to(ROOT)}{match[2] or ''})"

    return re.sub(r"\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)", address, markdown)
