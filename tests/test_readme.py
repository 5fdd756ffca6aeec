"""The README's commands: each names a verb, options and settings that exist."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from voiceflow.cli.app import app
from voiceflow.config import compose
from voiceflow.generation.spans import parse_span

REPOSITORY = Path(__file__).resolve().parents[1]
BASH_BLOCK = re.compile(r"^```bash\n(.*?)^```", re.DOTALL | re.MULTILINE)
SETTINGS = re.compile(r"\$\(grep -hv '\^#' ([^)]*)\)")  # of a recipe, in a command


def commands(name: str) -> list[list[str]]:
    """The words of each command in the bash blocks of a Markdown file."""
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    text = "\n".join(BASH_BLOCK.findall(text)).replace("\\\n", " ")
    lines = SETTINGS.sub(lambda found: listed(found[1].split()), text).split("\n")
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def listed(names: list[str]) -> str:
    """What stands in files of settings, but for comments, on one line."""
    lines = [line for name in names for line in (REPOSITORY / name).read_text().splitlines()]
    return " ".join(line for line in lines if not line.startswith("#"))


def arguments(words: list[str]) -> list[str] | None:
    """What stands after `voiceflow` in a command; None where the command is another."""
    for place, word in enumerate(words):
        if word == "voiceflow" or word.endswith("/voiceflow"):
            return words[place + 1 :]
    return None


RECIPES = [f"recipes/{p.parent.name}/README.md" for p in REPOSITORY.glob("recipes/*/README.md")]
DOCUMENTS = (
    "README.md",
    *(f"docs/{name}.md" for name in ("tour", "measures", "data", "benchmark", "vocoder")),
    *sorted(RECIPES),
)
VOICEFLOW = [
    found
    for name in DOCUMENTS
    for words in commands(name)
    if (found := arguments(words)) is not None
]
MAKE = [
    target
    for name in ("README.md", "CONTRIBUTING.md")
    for words in commands(name)
    if words[0] == "make"
    for target in words[1:]
]


def parse(words: list[str]) -> list[dict[str, object]]:
    """Parse `voiceflow words` without running it; the values that its verb was given."""
    command = typer.main.get_command(app)
    given: list[dict[str, object]] = []

    def disarm(node: object) -> None:
        inner = getattr(node, "commands", None)
        alone = node is not command and getattr(node, "invoke_without_command", False)
        if inner is None or alone:
            node.callback = lambda **values: given.append(values)  # type: ignore[attr-defined]
        for child in (inner or {}).values():
            disarm(child)

    disarm(command)
    command.main(args=words, prog_name="voiceflow", standalone_mode=False)
    return given


@pytest.mark.parametrize("words", VOICEFLOW, ids=" ".join)
def test_a_command_of_the_readme_parses(words: list[str]) -> None:
    *_, values = parse(words)
    spans = values.get("span") or ()
    for span in [spans] if isinstance(spans, str) else spans:  # type: ignore[attr-defined]
        parse_span(span)
    if words[0] == "train":
        compose(words[1:])


def test_the_readme_shows_every_verb() -> None:
    assert {words[0] for words in VOICEFLOW} == set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("target", MAKE)
def test_a_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    "words", [["fly"], ["infill", "a.wav", "--loud"], ["speak"], ["measure", "nothing"]]
)
def test_a_wrong_command_does_not_parse(words: list[str]) -> None:
    with pytest.raises(Exception, match=r"[Nn]o such|[Mm]issing"):
        parse(words)


PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
BLOCKS = [
    (path.name, number, block)
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
    if path.name != "python.md"  # on real speech: tests/test_docs.py
    for number, block in enumerate(PYTHON_BLOCK.findall(path.read_text(encoding="utf-8")))
]


@pytest.mark.parametrize(("name", "number", "block"), BLOCKS, ids=lambda v: str(v)[:20])
def test_the_python_of_the_documents_runs(
    name: str, number: int, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, f"{name}, block {number}", "exec"), {})


def test_the_documents_python_is_found() -> None:
    assert "flow.md" in {name for name, _, _ in BLOCKS}
