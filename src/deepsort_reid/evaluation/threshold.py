"""The distance at which a tracker should stop matching, as stage evaluate recommends it."""

from pathlib import Path

from deepsort_reid.core import files
from deepsort_reid.core.errors import ReportError

KEY, HEADLINE = "max_cosine_distance", "threshold"


def read_threshold(path: str | Path) -> float:
    """Read the recommended threshold on 1 - cosine, in [0, 2].

    Args:
        path: of reports/evaluation.json, or of the headline reports/metrics.json, which calls it
            `threshold`.

    Raises:
        ReportError: the file is missing, damaged, or recommends none.
    """
    remedy = "make it again: dvc repro -f evaluate"
    try:
        content = files.read_json(Path(path))
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: cannot be read ({error}); {remedy}") from None
    found = content.get(KEY, content.get(HEADLINE)) if isinstance(content, dict) else None
    if isinstance(content, dict) and found is None:
        raise ReportError(
            f"{path}: recommends no {KEY}, the test part has no pairs to find one by; hold out "
            "more people (split.test_fraction), or more images of each"
        )
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 2:
        raise ReportError(f"{path}: its {KEY} is {found}; expected a number from 0 to 2; {remedy}")
    return float(found)
