"""A folder of each kind of public vocoder, of random weights."""

from pathlib import Path

import pytest

from tests.vocoders.public import CONFIGS, write


@pytest.fixture(params=CONFIGS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture()
def folder(tmp_path: Path, name: str) -> Path:
    return write(tmp_path / name, name)
