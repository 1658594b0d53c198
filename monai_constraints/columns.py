"""The columns of metrics.csv, one row an epoch, and of patients.csv, one row a case and class."""

from __future__ import annotations

__all__ = [
    "BATCHES",
    "CLASS",
    "DATA_SHARE",
    "DICE",
    "DICE_2D",
    "EPOCH",
    "HD95",
    "LOSS",
    "LR",
    "PATIENTS_COLUMNS",
    "PROPOSED",
    "SECONDS",
    "SECONDS_DUAL",
    "SECONDS_PROPOSALS",
    "SECONDS_VALIDATION",
    "filled_column",
    "multiplier_column",
    "term_column",
    "validation_column",
    "weight_column",
]

EPOCH = "epoch"
SECONDS = "seconds"  # of the training
SECONDS_VALIDATION = "seconds_validation"
SECONDS_DUAL = "seconds_dual"
SECONDS_PROPOSALS = "seconds_proposals"  # of `DeepCut`, part of the training's seconds
PROPOSED = "proposed"  # what a trainer's state has of these columns, where `DeepCut` made proposals
BATCHES = "batches"
DATA_SHARE = "data_share"  # of the training's seconds, how much it waited for batches
LR = "lr"
LOSS = "loss"

CLASS = "class"
DICE = "dice"  # in 3D
DICE_2D = "dice_2d"  # the mean over the slices
HD95 = "hd95"  # mm
PATIENTS_COLUMNS = ("case", "patient", CLASS, DICE, HD95, DICE_2D, "slices", "absent", "left_empty", "missed")


def term_column(term: str) -> str:
    """The mean of a loss term, unweighted."""
    return f"{LOSS}_{term}"


def weight_column(term: str) -> str:
    """The weight of a loss term, which a schedule may change."""
    return f"weight_{term}"


def validation_column(metric: str) -> str:
    """A metric of the validation."""
    return f"val_{metric}"


def filled_column(k: int) -> str:
    """The part of the boxes of class k that is the target of `DeepCut`, at the start and in epochs with new ones."""
    return f"filled_{k}"


def multiplier_column(term: str, which: str) -> str:
    """The `mean` or `max` of a term's explicit multipliers."""
    return f"multiplier_{term}_{which}"
