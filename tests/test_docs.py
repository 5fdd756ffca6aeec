"""The site that mkdocs makes of docs/: it builds, its links lead somewhere, its Python runs."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from data_prep import CORPORA
from tests.test_doctests import RECORDINGS, TASKS
from tests.test_readme import PYTHON_BLOCK
from voiceflow.cli.prepare import AlignerName
from voiceflow.generated import Generated
from voiceflow.jobs import SampleOptions

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"


def load_hook() -> ModuleType:
    """docs/site.py, as mkdocs loads it: by its path."""
    spec = importlib.util.spec_from_file_location("docs_site", DOCS / "site.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOK = load_hook()


class Seen(HTMLParser):
    """The ids of a page, what it links to, and what a browser fetches to show it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {key: value for key, value in attrs if value is not None}
        self.ids |= {told[key] for key in ("id", "name") if key in told}
        if tag == "a" and "href" in told:
            self.links.append(told["href"])
        elif address := told.get("src") or told.get("href"):
            self.fetched.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Seen]:
    """The pages of the built site; --strict makes an error of every warning."""
    out = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return {page: Seen(page) for page in sorted(out.rglob("*.html")) if page.name != "404.html"}


def leaves(nav: Any) -> Iterator[str]:
    """The pages of a navigation."""
    if isinstance(nav, str):
        yield nav
    else:
        for inner in nav.values() if isinstance(nav, dict) else nav:
            yield from leaves(inner)


def test_every_page_stands_in_the_navigation_once() -> None:
    pages = list(leaves(yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"]))
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    elsewhere = {place for place in HOOK.ELSEWHERE.values() if place.endswith(".md")}
    assert sorted(pages) == sorted(written | elsewhere)


def test_every_link_of_the_site_leads_somewhere(site: dict[Path, Seen]) -> None:
    assert len(site) > 20
    for page, seen in site.items():
        for link in (*seen.links, *seen.fetched):
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = (page.parent / unquote(address.path)).resolve() if address.path else page
            assert target.is_file(), f"{page.name}: {link}"
            if address.fragment and target in site:
                assert unquote(address.fragment) in site[target].ids, f"{page.name}: {link}"


def test_no_page_fetches_from_another_host(site: dict[Path, Seen]) -> None:
    for page, seen in site.items():
        outside = [one for one in seen.fetched if urlsplit(one).netloc]
        assert not outside, page.name


def test_the_figure_is_shown(site: dict[Path, Seen]) -> None:
    [concepts] = [seen for page, seen in site.items() if page.name == "concepts.html"]
    assert "pictures/way.svg" in concepts.fetched


@pytest.mark.parametrize(
    ("link", "source", "here", "expected"),
    [
        ("vocoder.md", "docs/data.md", "data.md", "vocoder.md"),
        ("../recipes/speed/README.md", "docs/flow.md", "flow.md", "recipes/speed.md"),
        ("../../docs/flow.md", "recipes/speed/README.md", "recipes/speed.md", "../flow.md"),
        ("../speed/README.md", "recipes/vocoder/README.md", "recipes/vocoder.md", "speed.md"),
        ("../../README.md", "recipes/speed/README.md", "recipes/speed.md", "../index.md"),
        ("docs/training.md", "README.md", "index.md", "training.md"),
        ("LICENSE", "README.md", "index.md", "licence.txt"),
        ("voiceflow/voice.py", "README.md", "index.md", "voiceflow/voice.py"),  # refused
    ],
)
def test_links_hold_in_the_repository_and_in_the_site(
    link: str, source: str, here: str, expected: str
) -> None:
    assert HOOK.in_site(link, source, here) == expected


def code_of(name: str) -> set[str]:
    """What stands in backquotes on a page, or in its blocks, word by word."""
    text = (DOCS / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))
    return set(re.findall(r"\w+", " ".join([*blocks, *spans])))


def test_the_pages_name_all_that_there_is() -> None:
    assert {*CORPORA, *AlignerName} <= code_of("data.md")
    assert {*TASKS, *SampleOptions.__annotations__} <= code_of("python.md")
    assert {one.name for one in fields(Generated)} <= code_of("python.md")


@pytest.mark.filterwarnings("ignore::voiceflow.config.UserNote")
def test_the_python_of_the_page_runs(
    speech_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All blocks, one after the other, on the recordings that the page names."""
    page = (DOCS / "python.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name, file in RECORDINGS.items():
        assert f"| `{name}` | `{file}` |" in page
        Path(name).symlink_to(speech_dir / "LibriSpeech" / "test-clean" / file)
    names: dict[str, object] = {}
    blocks = PYTHON_BLOCK.findall(page)
    assert len(blocks) > 10
    for number, block in enumerate(blocks):
        exec(compile(block, f"python.md, block {number}", "exec"), names)
    assert {path.name for path in tmp_path.iterdir()} == {
        *RECORDINGS, "evening.wav", "filled.flac", "durations.json", "filled.png"
    }  # fmt: skip
