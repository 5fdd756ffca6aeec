"""Who may import whom: the rows of the house, held by reading every import (also in functions)."""

import ast
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

# From the top down; a module may import its own row and the rows under it.
ROWS = (
    ("cli",),
    ("benchmark", "toy"),
    ("training", "voice", "generated", "jobs", "planner", "spoken", "batch"),
    ("generation", "measures", "data", "pictures"),
    ("alignment", "vocoders"),
    ("model_folder",),
    ("models",),
    ("nn",),
    ("audio", "text", "flow"),
    ("config", "files", "hub", "notes"),
)
RANK = {room: len(ROWS) - number for number, row in enumerate(ROWS) for room in row}
NEVER_EACH_OTHER = {("training", "voice"), ("voice", "training")}
FLOW_STANDS_ON = {"torch", "torchdiffeq", "scipy", "voiceflow"} | set(sys.stdlib_module_names)
WITHOUT_ACCELERATE = set(RANK) - {"cli", "training", "benchmark"}
CORPORA_MAY_USE = {"voiceflow.config", "voiceflow.data.manifest", "voiceflow.files"}
# The package itself: its version, and the public names, which it loads on first use.
PACKAGE = {"voiceflow", "voiceflow.__main__"}

Sources = Mapping[str, str]


def imports(name: str, source: str, known: Iterable[str], lazy: bool = True) -> set[str]:
    """Modules that `source` imports; with `lazy` false, only those its own import brings along.

    `from package import name` counts as the module `package.name` where that is one.
    """
    known = set(known)
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = name if f"{name}.__init__" in known else name.rpartition(".")[0]
            for _ in range(node.level - 1):
                parent = parent.rpartition(".")[0]
            base = ".".join(filter(None, (parent if node.level else "", node.module)))
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in known else base)
        for child in ast.iter_child_nodes(node):
            inside_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            if lazy or not (inside_function or is_for_types_only(child)):
                visit(child)

    visit(ast.parse(source))
    return found


def is_for_types_only(node: ast.AST) -> bool:
    """Whether the node is `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def violations(sources: Sources) -> list[str]:
    """What the modules (name -> source) import that they may not, a line each."""
    return [
        f"{name} imports {target}: {why}"
        for name, source in sorted(sources.items())
        for target in sorted(imports(name, source, sources))
        if (why := fault(name, target))
    ]


def fault(name: str, target: str) -> str:
    """Why the module `name` may not import `target`; empty where it may."""
    package, _, rest = name.partition(".")
    target_package, _, target_rest = target.partition(".")
    if package == "data_prep":
        if target_package == "voiceflow" and target not in CORPORA_MAY_USE:
            return f"a corpus may use only {', '.join(sorted(CORPORA_MAY_USE))}"
        return ""
    if name in PACKAGE:
        return ""
    room, target_room = rest.split(".")[0], target_rest.split(".")[0]
    if room not in RANK:
        return f"the room {room!r} stands in no row"
    if room == "flow" and target_package not in FLOW_STANDS_ON:
        return "flow stands on torch, torchdiffeq and scipy"
    if target_package == "accelerate" and room in WITHOUT_ACCELERATE:
        return "inference never imports accelerate"
    if target_package == "data_prep" and RANK[room] < RANK["data"]:
        return f"corpora stand above {room}"
    if target_package != "voiceflow" or target in PACKAGE:
        return ""
    if target_room not in RANK:
        return f"the room {target_room!r} stands in no row"
    if (room, target_room) in NEVER_EACH_OTHER:
        return "training and voice never import each other"
    if room == "flow" and target_room != "flow":
        return "flow knows nothing of speech"
    if RANK[target_room] > RANK[room]:
        return f"{target_room} stands above {room}"
    return ""


def circles(sources: Sources) -> list[list[str]]:
    """Circles among the imports that happen when the modules are imported."""
    edges = {
        name: sorted(imports(name, source, sources, lazy=False) & sources.keys())
        for name, source in sources.items()
    }
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in done:
            for target in edges[name]:
                walk(target, [*path, name])
            done.add(name)

    for name in sorted(edges):
        walk(name, [])
    return found


@pytest.fixture(scope="module")
def sources(repository: Path) -> dict[str, str]:
    """Every module of the project by its name; a package's own file stands under both names."""
    found = {}
    for package in ("voiceflow", "data_prep"):
        for path in sorted((repository / package).rglob("*.py")):
            parts = path.relative_to(repository).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
                found[".".join(parts) + ".__init__"] = ""  # marks a package for relative imports
            found[".".join(parts)] = path.read_text(encoding="utf-8")
    assert len(found) > 10
    return found


def test_imports_run_down(sources: Sources) -> None:
    assert violations(sources) == []


def test_no_circles(sources: Sources) -> None:
    assert circles(sources) == []


@pytest.mark.parametrize(
    ("name", "source", "why"),
    [
        ("voiceflow.nn.a", "from voiceflow.models.velocity import V", "models stands above nn"),
        ("voiceflow.audio.a", "def f():\n    import voiceflow.cli.app", "cli stands above audio"),
        ("voiceflow.text.a", "from ..voice import Voice", "voice stands above text"),
        ("voiceflow.training.a", "from voiceflow import voice", "never import each other"),
        ("voiceflow.voice", "import voiceflow.training.loop", "never import each other"),
        ("voiceflow.voice", "def f():\n    from accelerate import Accelerator", "accelerate"),
        ("voiceflow.flow.a", "import numpy as np", "flow stands on"),
        ("voiceflow.flow.a", "from voiceflow.audio.io import read", "nothing of speech"),
        ("voiceflow.shed.a", "import voiceflow.config", "in no row"),
        ("voiceflow.nn.a", "import voiceflow.shed", "in no row"),
        ("data_prep.a", "from voiceflow.audio.io import read", "a corpus may use only"),
        ("voiceflow.audio.a", "import data_prep.librispeech", "corpora stand above audio"),
    ],
)
def test_a_planted_violation_is_found(name: str, source: str, why: str) -> None:
    known = {name: source, "voiceflow": "", "voiceflow.__init__": "", "voiceflow.voice": ""}
    known[name] = source
    found = violations(known)
    assert len(found) == 1
    assert why in found[0]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("voiceflow.cli.a", "from voiceflow.training.loop import main\nimport accelerate"),
        ("voiceflow.training.a", "from voiceflow.measures.words import wer"),
        ("voiceflow.flow.a", "import math\nimport torch\nfrom voiceflow.flow.paths import OT"),
        ("data_prep.a", "from voiceflow.data.manifest import Utterance\nimport soundfile"),
        ("data_prep.a", "from data_prep.fetch import fetch\nfrom voiceflow.files import replacing"),
    ],
)
def test_what_is_allowed_is_not_blamed(name: str, source: str) -> None:
    assert violations({name: source}) == []


def test_a_planted_circle_is_found() -> None:
    a, b = "voiceflow.audio.a", "voiceflow.text.b"
    planted = {a: "from voiceflow.text import b", b: "import voiceflow.audio.a"}
    assert circles(planted) == [[a, b, a]]
    late = {a: "def f():\n    from voiceflow.text import b", b: "import voiceflow.audio.a"}
    assert circles(late) == []
