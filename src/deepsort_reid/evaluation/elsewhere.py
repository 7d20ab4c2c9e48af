"""How the network does on each of several datasets, and on datasets it was not trained for.

A tracker in the field meets other cameras and other people than those of the training. How often
it confuses them there, at the threshold that was found here, is what these numbers say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from deepsort_reid.data.packed import Part
from deepsort_reid.data.sample_size import LEAST, shortage, verdict
from deepsort_reid.data.samples import source_of
from deepsort_reid.evaluation.calibration import Calibration
from deepsort_reid.evaluation.pairs import Sightings
from deepsort_reid.evaluation.ranking import Ranking


@dataclass(frozen=True, eq=False)
class Scores:
    """The results on one dataset's queries and gallery."""

    ranking: Ranking
    calibration: Calibration

    def numbers(self, threshold: float | None) -> dict[str, Any]:
        """The numbers by name, each with its count, and whether they mean something.

        Args:
            threshold: the recommended max_cosine_distance, which rests on the test part of what
                the network was trained on; None if there is none. The match rates of this dataset
                at it are stated.
        """
        ranking = self.ranking
        recommended = self.calibration.recommended
        found: dict[str, Any] = {
            "mAP": ranking.mAP,
            "mINP": ranking.mINP,
            "rank1": float(ranking.cmc[0]),
            "queries": ranking.num_query - ranking.num_unmatched,
            "query_identities": ranking.num_identities,
            "gallery_images": ranking.num_gallery,
        }
        if recommended is not None:
            found["max_cosine_distance"] = recommended.threshold.value
        if recommended is not None and threshold is not None:
            false, matched = recommended.rates_at(threshold)
            found["false_match_rate_at_recommended"] = false
            found["true_match_rate_at_recommended"] = matched
        queries = {"queries": (found["queries"], LEAST)}
        too_few = {
            "ranking": shortage(queries | {"identities": (ranking.num_identities, LEAST)}),
            "threshold": self.calibration.too_few,
        }
        return {**found, **verdict(too_few)}


def of_source(side: Sightings, part: Part, source: str) -> Sightings:
    """The images of one of several datasets, with which a part's names begin."""
    wanted = [source_of(name) == source for name in part.names]
    index = torch.from_numpy(np.flatnonzero(wanted)).to(side.images.pids.device)
    return side[index]


def in_a_line(name: str, numbers: Mapping[str, Any]) -> str:
    """The numbers on one dataset, for the end of stage evaluate."""
    line = (
        f"{name}: mAP {numbers['mAP']:.1%}, rank-1 {numbers['rank1']:.1%} of "
        f"{numbers['queries']:,} queries"
    )
    if "max_cosine_distance" in numbers:
        line += f", max_cosine_distance {numbers['max_cosine_distance']:.3f}"
    if "false_match_rate_at_recommended" in numbers:
        line += (
            f"; at the recommended one {numbers['true_match_rate_at_recommended']:.1%} of pairs of "
            f"one person match, {numbers['false_match_rate_at_recommended']:.1%} of two"
        )
    return line if numbers["meaningful"] else f"{line}; not meaningful, too few"


def lines(groups: Mapping[str, Mapping[str, Any]], most: int) -> list[str]:
    """A line for each dataset, at most so many, and how many more there are."""
    found = [in_a_line(name, numbers) for name, numbers in groups.items()]
    more = len(found) - most
    return found if more <= 0 else [*found[:most], f"and {more} more in evaluation.json"]
