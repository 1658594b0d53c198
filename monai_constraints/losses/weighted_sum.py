"""The weighted sum of named terms that a network is trained with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..constraints import Multipliers, Patch
from ..constraints.network_output import check_output
from ..keys import ARGUMENT_KEYS, LABEL, bounds_key
from .activation import Activation

__all__ = ["Term", "WeightedSum"]

OF_VOXELS = ("image", "boxes")  # the arguments that a sum over voxels needs; the others belong to the whole image


class Term(nn.Module):
    """One named term: a loss on probabilities, its weight, and where in the batch its arguments are.

    Our losses say what they need, so most terms are `Term(loss)`. The target of a constraint named `size` is
    `size_bounds`.

    Args:
        loss: called as loss(probabilities, targets[target], **{argument: targets[key]}).
        target: batch key of the second argument; by default the loss's own, for losses of others `label`.
        weight: of the term in the sum; a `Schedule` may set it through `WeightedSum.weights`.
        arguments: batch keys of further arguments, where they are not the loss's own: {"known": "weak"}.
    """

    def __init__(
        self,
        loss: nn.Module,
        target: str | None = None,
        *,
        weight: float = 1.0,
        arguments: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.loss, self.target, self.weight = loss, target, float(weight)
        needed = {name: ARGUMENT_KEYS.get(name, name) for name in getattr(loss, "needs", ())}
        self.arguments = {**needed, **(arguments or {})}

    @property
    def local(self) -> bool:
        """Whether the loss is a mean over voxels, which needs no sums."""
        return bool(getattr(self.loss, "local", False))


class WeightedSum(nn.Module):
    r"""E(s) + sum_i lambda_i C_i(s) (thesis 2.2): logits to probabilities once, then every term on them.

    For an image in patches: `sums` of each patch, added, then `of_sums`, for the terms that are functions of sums; and
    `local`, weighted by the patch's share of the voxels, for those that are means over voxels.

    Args:
        terms: the terms by name. A term of weight 0 is evaluated without gradient, so that its log goes on.
        temperature: softmax(temperature * logits).
        sigmoid: independent channels rather than softmax.

    Attributes:
        last: each term of the latest call, unweighted and detached, by name.
        weights: each term's weight by name, which a `Schedule` may change.

    Shapes: logits (B, C, *S); targets: the batch's entries by key; result a scalar.

    Raises:
        KeyError: where the targets lack a key that a term needs.
        TypeError, ValueError: for the outputs of deep supervision (`check_output`).
        TypeError: from `sums`, where a term can be had of whole images only.

    Warns:
        UserWarning: once, where the boundary loss alone is to train a binary task (thesis 4.2, 4.3.6).
    """

    def __init__(self, terms: Mapping[str, Term], *, temperature: float = 1.0, sigmoid: bool = False) -> None:
        super().__init__()
        if not terms:
            raise ValueError("WeightedSum: no terms; give at least one, such as {'ce': Term(...)}")
        self.terms = cast("Mapping[str, Term]", nn.ModuleDict(dict(terms)))
        self.weights = {name: term.weight for name, term in terms.items()}
        self.activation = Activation("WeightedSum", softmax=not sigmoid, sigmoid=sigmoid, temperature=temperature)
        self.last: dict[str, Tensor] = {}
        self._targets = {name: _target(name, term) for name, term in terms.items()}
        self._warned = False

    @property
    def target_keys(self) -> list[str]:
        """The batch keys that the terms need."""
        keys = [key for name, term in self.terms.items() for key in (self._targets[name], *term.arguments.values())]
        return list(dict.fromkeys(keys))

    def multipliers(self) -> dict[str, Multipliers]:
        """The explicit multipliers of the terms that have them, by the term's name."""
        found = {name: getattr(term.loss, "penalty", None) for name, term in self.terms.items()}
        return {name: penalty for name, penalty in found.items() if isinstance(penalty, Multipliers)}

    def forward(self, logits: Tensor, targets: Mapping[str, Any]) -> Tensor:
        check_output(logits, *targets.values(), owner="WeightedSum")
        self._check(targets)
        with torch.autocast(logits.device.type, enabled=False):
            probabilities = self.activation(logits)
            self._warn_of_collapse(probabilities.shape[1])
            total: Tensor | None = None
            for name, term in self.terms.items():
                with self._graded(name):
                    value = term.loss(probabilities, targets[self._targets[name]], **_arguments(term, targets))
                total = self._added(total, name, value)
        # Without any active term the gradient is zero, not missing.
        total = probabilities.new_zeros(()) if total is None else total
        return total if total.requires_grad or not logits.requires_grad else total + 0 * logits.float().sum()

    def sums(
        self, probabilities: Tensor, targets: Mapping[str, Any], *, patch: Patch | None = None
    ) -> dict[str, Tensor]:
        """The sums of the terms that are functions of sums, by name: those of the patches of an image add.

        Args:
            probabilities: (B, C, *S) of patches; multiplied by each voxel's weight where patches overlap.
            targets: the batch's entries, those on the voxel grid cut as the patches are.
            patch: where the patches lie.
        """
        found = {}
        for name, term in self.terms.items():
            if term.local:
                continue
            if not hasattr(term.loss, "sums"):
                raise TypeError(
                    f"WeightedSum: {name} ({type(term.loss).__name__}) is no function of sums over voxels, so it needs "
                    "whole images; leave it out, or train on whole images"
                )
            given = {k: v for k, v in _arguments(term, targets).items() if k in OF_VOXELS}
            if patch is not None and _target_is_bounds(term):
                given["patch"] = patch
            sums: Any = term.loss.sums
            with self._graded(name):
                found[name] = sums(probabilities, targets[self._targets[name]], **given)
        return found

    def of_sums(self, sums: Mapping[str, Tensor], targets: Mapping[str, Any], *, shape: Sequence[int]) -> Tensor:
        """The weighted terms of whole images of this shape (*S), from their sums."""
        total: Tensor | None = None
        for name in sums:
            term = self.terms[name]
            given: dict[str, Any] = {k: v for k, v in _arguments(term, targets).items() if k not in OF_VOXELS}
            bounds = [targets[self._targets[name]]] if _target_is_bounds(term) else []
            with self._graded(name):
                value = term.loss.of_sums(sums[name], *bounds, shape=shape, **given)  # type: ignore[operator]
            total = self._added(total, name, value)
        return torch.zeros(()) if total is None else total

    def local(self, probabilities: Tensor, targets: Mapping[str, Any]) -> Tensor:
        """The weighted terms that are means over voxels."""
        total: Tensor | None = None
        for name, term in self.terms.items():
            if term.local:
                with self._graded(name):
                    value = term.loss(probabilities, targets[self._targets[name]], **_arguments(term, targets))
                total = self._added(total, name, value)
        return probabilities.new_zeros(()) if total is None else total

    def _graded(self, name: str) -> torch.set_grad_enabled:
        """A term of weight 0 is evaluated without gradient."""
        # A branch: what torch.compile makes of a weight that has changed can be compared, but not passed on.
        return torch.set_grad_enabled(torch.is_grad_enabled() if self.weights[name] != 0 else False)

    def _added(self, total: Tensor | None, name: str, value: Tensor) -> Tensor | None:
        self.last[name], weight = value.detach(), self.weights[name]
        if weight == 0:
            return total
        # Not from a zero on: torch.compile lost the gradient of 0 + value beside the detached value.
        return value * weight if total is None else torch.add(total, value, alpha=weight)

    def _check(self, targets: Mapping[str, Any]) -> None:
        missing = [key for key in self.target_keys if key not in targets]
        if missing:
            raise KeyError(
                f"WeightedSum: the targets lack {missing} (they have {sorted(targets)}); add the transform that makes "
                "them, or remove the term that needs them"
            )

    def _warn_of_collapse(self, channels: int) -> None:
        """Here it is known which terms train the network, and of how many classes."""
        active = [name for name, weight in self.weights.items() if weight != 0]
        if self._warned or channels > 2 or not active:
            return
        if all(getattr(self.terms[name].loss, "collapses_alone", False) for name in active):
            self._warned = True
            warnings.warn(
                f"WeightedSum: {active} alone on a binary task. The boundary loss then ends in an empty prediction, "
                "whose gradient is almost zero; add a regional term, such as GeneralizedDiceLoss(to_onehot_y=True), "
                "and rebalance the two over the epochs (docs/boundary_loss.md)",
                stacklevel=2,
            )


def _target_is_bounds(term: Term) -> bool:
    """Bounds belong to the whole image, every other target to its voxels."""
    return getattr(term.loss, "target_key", LABEL) is None


def _target(name: str, term: Term) -> str:
    default = getattr(term.loss, "target_key", LABEL)
    return term.target or default or bounds_key(name)


def _arguments(term: Term, targets: Mapping[str, Any]) -> dict[str, Any]:
    return {argument: targets[key] for argument, key in term.arguments.items()}
