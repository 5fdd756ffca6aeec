"""The site's hook for mkdocs: pages from outside docs/, and links that hold in both places.

A link in a Markdown file is relative to where the file lies in the repository, so that it can be
followed there. The site has those files of ELSEWHERE too, in places of their own, and links are
rewritten to these. What a link leads to and neither docs/ nor ELSEWHERE has is left as it is, and
`mkdocs build --strict` refuses it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[1]
# A file of the repository, and where it stands in the site.
ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "licence.txt",
    "voiceflow/voices/mini/README.md": "mini.md",
    **{
        f"recipes/{path.parent.name}/README.md": f"recipes/{path.parent.name}.md"
        for path in sorted(REPOSITORY.glob("recipes/*/README.md"))
    },
}
_LINK = re.compile(r"(?<=\]\()[^)\s#:]+(?=[)#])")  # a path, and not an address


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add what stands elsewhere, and the colours of code."""
    for source, place in ELSEWHERE.items():
        files.append(File.generated(config, place, abs_src_path=str(REPOSITORY / source)))
    files.append(File.generated(config, "code.css", content=_colours()))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """The page with its links as they are in the site."""
    here = page.file.src_uri
    sources = {place: source for source, place in ELSEWHERE.items()}
    source = sources.get(here, f"docs/{here}")
    return _LINK.sub(lambda found: in_site(found[0], source, here), markdown)


def in_site(link: str, source: str, here: str) -> str:
    """A link of the repository's file `source`, as the site's page `here` has it."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    place = ELSEWHERE.get(target)
    if place is None and target.startswith("docs/"):
        place = target.removeprefix("docs/")
    return link if place is None else posixpath.relpath(place, posixpath.dirname(here) or ".")


def _colours() -> str:
    """Style sheet of code, by day and by night."""
    from pygments.formatters import HtmlFormatter

    day = HtmlFormatter(style="friendly").get_style_defs(".codehilite")
    night = HtmlFormatter(style="github-dark").get_style_defs("[data-bs-theme=dark] .codehilite")
    return f"{day}\n{night}\n"
