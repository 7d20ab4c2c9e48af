"""How many independent observations a number takes before it means something.

A share that was measured on n independent observations is known to within Wilson's interval
("Probable Inference, the Law of Succession, and Statistical Inference", JASA 22, 1927). At 95 %
and at its widest it reaches 1.96 / (2 sqrt(n + 1.96^2)) to each side: 41 points with 2
observations, 20 points with `LEAST`, 10 points with 92. With fewer than `LEAST` a good network
cannot be told from a poor one. Images of one identity are alike, so identities are what counts.

A rate is known to within a factor of two once it rests on `LEAST_EVENTS` events: of 10, the 95 %
interval of a Poisson distribution is 4.8 to 18.4.
"""

from collections.abc import Mapping
from typing import Any

LEAST = 20  # identities, queries, images to classify, pairs of one person
LEAST_EVENTS = 10  # pairs of two people that match at the chosen false-match rate


def shortage(counts: Mapping[str, tuple[int, int]]) -> str:
    """What there is too little of: `queries: 2 (needs 20), identities: 2 (needs 20)`.

    Args:
        counts: name of the observations -> how many there are, and how many it takes.

    Returns:
        an empty text if there is enough of everything.
    """
    return ", ".join(
        f"{name}: {count:,} (needs {least:,})"
        for name, (count, least) in counts.items()
        if count < least
    )


def verdict(too_few: Mapping[str, str]) -> dict[str, Any]:
    """What a file of numbers says of their worth.

    Args:
        too_few: group of numbers -> its `shortage`; empty texts are left out.
    """
    found = {group: text for group, text in too_few.items() if text}
    return {"meaningful": not found, "too_few": found}


def as_tag(too_few: Mapping[str, str]) -> str:
    """The same as a tag of the run; `no` where nothing is lacking, to replace an earlier one."""
    return "; ".join(f"{group}: {text}" for group, text in too_few.items() if text) or "no"
