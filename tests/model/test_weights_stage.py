"""Stage weights leaves a link, a file that a URL has brought, or a word; or says what is wrong."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deepsort_reid.core.errors import WeightsError
from deepsort_reid.model.pretrained.source import BROUGHT, WeightsSource
from tests.support import stages
from tests.support.web_server import WebServer, web_server

CONTENT, OTHER = b"some weights", b"other weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[WebServer]:
    with web_server(CONTENT) as served:
        yield served


@pytest.fixture
def brings(workspace: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str | None], str]:
    """What the stage says of a value of `weights`; '' where it goes well and says nothing."""

    def run(weights: str | None) -> str:
        stages.write_params(workspace, {"weights": weights})
        try:
            stages.run("weights")
        except SystemExit:
            return capsys.readouterr().err.splitlines()[-1]
        return ""

    return run


Brings = Callable[[str | None], str]


def test_no_weights_are_a_word(brings: Brings) -> None:
    assert brings(None) == ""
    assert BROUGHT.read_text() == "none\n"  # DVC warns of an empty file


@pytest.mark.parametrize("text", ["imagenet", "models:/deepsort-reid@best"])
def test_what_was_not_brought_yet_is_said(brings: Brings, text: str) -> None:
    assert brings(None) == ""
    with pytest.raises(WeightsError, match=f"holds nothing yet; `dvc repro weights` brings {text}"):
        WeightsSource.parse(text).verified()


def test_a_file_is_linked_and_stays_as_it_is(brings: Brings, workspace: Path) -> None:
    path = workspace / "w.pth"
    path.write_bytes(CONTENT)
    for text in ("w.pth", str(path), f"w.pth#sha256={DIGEST}"):
        assert brings(text) == ""
        assert BROUGHT.is_symlink()
        assert BROUGHT.resolve() == path
    assert brings(None) == ""
    assert not BROUGHT.is_symlink()
    assert path.read_bytes() == CONTENT


def test_a_url_is_brought_once_and_checked(brings: Brings, server: WebServer) -> None:
    text = f"{server.url}#sha256={DIGEST}"
    for _ in range(2):
        assert brings(text) == ""
        assert BROUGHT.read_bytes() == CONTENT
        assert WeightsSource.parse(text).verified() == BROUGHT
        BROUGHT.unlink()
    assert len(server.requests) == 1


def test_a_url_without_checksum_is_told_its_own(brings: Brings, server: WebServer) -> None:
    said = brings(server.url)
    assert said == (
        f"error: {server.url}: the file that came has the SHA-256 {DIGEST}; if you trust it, say "
        f"so behind the URL: #sha256={DIGEST}"
    )
    assert brings(f"{server.url}#sha256={DIGEST}") == ""
    assert len(server.requests) == 1


def test_what_is_another_file_is_refused(
    brings: Brings, server: WebServer, workspace: Path
) -> None:
    server.content = OTHER
    other = hashlib.sha256(OTHER).hexdigest()
    expected = f"its SHA-256 is {other}, expected {DIGEST}; check which of them is right"
    assert expected in brings(f"{server.url}#sha256={DIGEST}")
    (workspace / "w.pth").write_bytes(OTHER)
    assert f"{other}, weights expects {DIGEST}" in brings(f"w.pth#sha256={DIGEST}")
    assert "gone.pth: no such file" in brings("gone.pth")


def test_a_training_notices_that_the_url_is_another_one(brings: Brings, server: WebServer) -> None:
    brings(f"{server.url}#sha256={DIGEST}")
    text = f"{server.url}#sha256={'0' * 64}"
    with pytest.raises(WeightsError, match="run `dvc repro weights`, which brings it"):
        WeightsSource.parse(text).verified()
