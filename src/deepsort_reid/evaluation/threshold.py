"""The distance at which a tracker should stop matching, as stage evaluate recommends it."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepsort_reid.core import files
from deepsort_reid.core.errors import ReportError

logger = logging.getLogger(__name__)

KEY, HEADLINE = "max_cosine_distance", "threshold"
REMEDY = "make it again: dvc repro"


def read_threshold(path: str | Path) -> float:
    """Read the recommended threshold on 1 - cosine, in [0, 2]; warn if it rests on too little.

    Args:
        path: of reports/evaluation.json, or of the headline reports/metrics.json, which calls it
            `threshold`.

    Raises:
        ReportError: the file is missing, damaged, or recommends none.
    """
    content = read_report(path)
    found = content.get(KEY, content.get(HEADLINE)) if isinstance(content, dict) else None
    if isinstance(content, dict) and found is None:
        raise ReportError(
            f"{path}: recommends no {KEY}, the test part has no pairs to find one by; hold out "
            "more people (split.test_fraction), or more images of each"
        )
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 2:
        raise ReportError(f"{path}: its {KEY} is {found}; expected a number from 0 to 2; {REMEDY}")
    few = content.get("too_few") if isinstance(content, dict) else None
    if why := few.get("threshold") if isinstance(few, dict) else None:
        logger.warning("%s: the threshold %.3f is not meaningful: too few %s", path, found, why)
    return float(found)


def read_too_few(path: str | Path) -> dict[str, str]:
    """Read which numbers of reports/evaluation.json rest on too little, and on how little.

    Returns:
        `ranking`, `threshold`, `val_accuracy` -> a text; empty where all numbers are meaningful,
        and of files that do not say.

    Raises:
        ReportError: the file is missing or damaged.
    """
    content = read_report(path)
    found = content.get("too_few", {}) if isinstance(content, Mapping) else None
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ReportError(f"{path}: its too_few is {found}; expected texts by name; {REMEDY}")
    return found


def read_report(path: str | Path) -> Any:
    """Read the report.

    Raises:
        ReportError: it is missing, or no JSON.
    """
    try:
        return files.read_json(Path(path))
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: cannot be read ({error}); {REMEDY}") from None
