"""The mend of torchaudio, on a stand-in that fails at import as the real one does."""

import sys
from pathlib import Path

import pytest

from voiceflow.cli import doctor

FAILS_WITH_COMPILED_FILES = """
from pathlib import Path
if list((Path(__file__).parent / "lib").glob("*.so")):
    raise OSError("libcudart.so.13: cannot open shared object file")
"""


@pytest.fixture
def torchaudio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "torchaudio"
    (folder / "lib").mkdir(parents=True)
    (folder / "__init__.py").write_text(FAILS_WITH_COMPILED_FILES)
    for name in ("libtorchaudio.so", "_torchaudio.abi3.so"):
        (folder / "lib" / name).touch()
    monkeypatch.delitem(sys.modules, "torchaudio", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return folder


def test_without_cuda_the_compiled_files_go(
    torchaudio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.version.cuda", None)
    said = doctor.mend()
    assert "libcudart.so.13" in said
    assert "took away _torchaudio.abi3.so, libtorchaudio.so" in said
    assert said.endswith("it imports now")
    assert not list((torchaudio / "lib").iterdir())
    assert "nothing to mend" in doctor.mend()


def test_with_cuda_nothing_is_touched(torchaudio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.version.cuda", "13.0")
    assert "nothing was changed" in doctor.mend()
    assert len(list((torchaudio / "lib").iterdir())) == 2
