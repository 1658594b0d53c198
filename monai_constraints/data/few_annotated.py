"""A few annotated patients, and bounds instead of labels for all others (thesis chapter 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from monai_constraints.data.datalist import choose_cases
from monai_constraints.data.loading import case_name
from monai_constraints.keys import ANNOTATED, LABEL, PATIENT, SCRIBBLE

__all__ = ["Case", "SizeSource", "few_annotated", "listed", "owner"]

Case = dict[str, Any]
NOT_TO_BE_USED = (LABEL, SCRIBBLE)


class SizeSource(Protocol):
    """Where the bounds of the cases without annotation come from: `RegressedSizes`, `PositionPrior`, `OracleSizes`."""

    def __call__(self, annotated: Sequence[Case], others: Sequence[Case], validation: Sequence[Case]) -> list[Case]:
        """The others with `<name>_predicted` and `<name>_regressed`."""


def owner(case: Mapping[str, Any]) -> str:
    """Who a case is of: its patient, or itself."""
    return str(case.get(PATIENT) or case_name(case))


def few_annotated(
    datalist: Mapping[str, Sequence[Case]],
    *,
    sizes: SizeSource,
    count: int | None = None,
    patients: str = "first",
    draw: int = 0,
    alone: bool = False,
) -> list[Case]:
    """The training cases: S, those of `count` patients, marked as annotated, and U, all others without their labels.

    Nobody can use by mistake what is not there: the entries `label` and `scribble` of U are taken out here, before a
    file is opened.

    Args:
        datalist: {"training", "validation"} of cases.
        sizes: adds bounds to U; it is given the cases with their labels, of which only `OracleSizes` may read those.
        count: n, the number of annotated patients; None: those whose cases say `annotated`.
        patients, draw: which of them, as in :func:`choose_cases`.
        alone: S without U, the row FS of table 5.1.

    Raises:
        ValueError: nobody is annotated, nobody is left (unless `alone`), a choice other than the one that the list
            marks, an annotated patient among the validation's, one with a case that is not annotated, or one without
            a label; and what `sizes` refuses.
    """
    training, validation = datalist["training"], datalist["validation"]
    marked = sorted({owner(case) for case in training if case.get(ANNOTATED)})
    if count is None:
        chosen = [case for case in training if case.get(ANNOTATED)]
        if not chosen:
            raise ValueError(
                'few_annotated: no case of the training list is marked "annotated": true, and annotated_count is not '
                "given; mark the cases that have a full label, or say how many patients count as annotated"
            )
    else:
        chosen = choose_cases(training, count, patients=patients, draw=draw)
    names = {owner(case) for case in chosen}
    if marked and sorted(names) != marked:
        raise ValueError(
            f"few_annotated: the datalist marks {listed(marked)} as annotated, annotated_count={count} with "
            f"patients={patients!r} chooses {listed(sorted(names))}; leave annotated_count out, or make the list again"
        )
    reported = sorted(names & {owner(case) for case in validation})
    if reported:
        raise ValueError(
            f"few_annotated: patient {reported[0]} is annotated and among those that are reported (validation); take "
            "all cases of this patient out of one of the two lists"
        )
    half = [case_name(case) for case in training if owner(case) in names and case not in chosen]
    if half:
        raise ValueError(
            f"few_annotated: {half[0]} is not annotated, but another case of the same patient is; mark both, or leave "
            "it out: it would not be a patient that the network has not seen"
        )
    lacking = [case_name(case) for case in chosen if LABEL not in case]
    if lacking:
        raise ValueError(f"few_annotated: the annotated case {lacking[0]} has no label; add it, or do not mark it")
    annotated = [{**{k: v for k, v in case.items() if k != SCRIBBLE}, ANNOTATED: True} for case in chosen]
    others = [case for case in training if owner(case) not in names]
    if alone:
        return annotated
    if not others:
        raise ValueError(
            f"few_annotated: all {len(names)} patients of the training list are annotated, so there is nothing to "
            "bound; annotate fewer (annotated_count), or take the row full_few"
        )
    bounded = sizes(annotated, others, validation)
    return [*annotated, *({k: v for k, v in case.items() if k not in NOT_TO_BE_USED} for case in bounded)]


def listed(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
