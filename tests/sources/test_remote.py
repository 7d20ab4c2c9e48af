import pytest

from deepsort_reid.core.errors import SourceError
from deepsort_reid.sources.remote import cause, require_filesystem, version_of


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ({"ETag": '"1"', "Last-Modified": "Monday"}, '"1"'),
        ({"ETag": 'W/"1"', "Last-Modified": "Monday"}, "Monday"),
        ({"ETag": 'W/"1"'}, None),
        ({}, None),
    ],
)
def test_a_version_is_what_servers_compare(headers: dict[str, str], version: str | None) -> None:
    assert version_of(headers) == version


def test_the_cause_is_at_the_bottom_of_the_chain() -> None:
    error = RuntimeError("no answer")
    error.__cause__ = OSError("the\n cable is out")
    assert cause(error) == "the cable is out"
    assert cause(TimeoutError()) == "TimeoutError"


def test_schemes_that_can_be_opened_pass() -> None:
    for url in ("http://a", "HTTPS://a", "memory://a"):
        require_filesystem(url)
    with pytest.raises(SourceError, match="nothing opens 'sssh://'; did you mean 'ssh://'"):
        require_filesystem("sssh://a")
