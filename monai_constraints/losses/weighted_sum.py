"""The weighted sum of named terms that a network is trained with."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from .activation import Activation

__all__ = ["Term", "WeightedSum"]


class Term(nn.Module):
    """One named term: a loss on probabilities, its weight, and where in the batch its arguments are.

    Args:
        loss: called as loss(probabilities, targets[target], **{argument: targets[key]}).
        target: batch key of the second argument, such as `weak` or `size_bounds`.
        weight: of the term in the sum; a `Schedule` may set it through `WeightedSum.weights`.
        arguments: further arguments of the loss to batch keys, such as {"group": "case", "image": "image"}.
    """

    def __init__(
        self, loss: nn.Module, target: str, *, weight: float = 1.0, arguments: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self.loss, self.target, self.weight = loss, target, float(weight)
        self.arguments = dict(arguments or {})


class WeightedSum(nn.Module):
    r"""E(s) + sum_i lambda_i C_i(s) (thesis 2.2): logits to probabilities once, then every term on them.

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
        self._warned = False

    @property
    def target_keys(self) -> list[str]:
        """The batch keys that the terms need."""
        keys = [key for term in self.terms.values() for key in (term.target, *term.arguments.values())]
        return list(dict.fromkeys(keys))

    def forward(self, logits: Tensor, targets: Mapping[str, Any]) -> Tensor:
        missing = [key for key in self.target_keys if key not in targets]
        if missing:
            raise KeyError(
                f"WeightedSum: the targets lack {missing} (they have {sorted(targets)}); add the transform that makes "
                "them, or remove the term that needs them"
            )
        with torch.autocast(logits.device.type, enabled=False):
            probabilities = self.activation(logits)
            self._warn_of_collapse(probabilities.shape[1])
            total: Tensor | None = None
            for name, term in self.terms.items():
                weight = self.weights[name]
                arguments = {argument: targets[key] for argument, key in term.arguments.items()}
                with torch.set_grad_enabled(torch.is_grad_enabled() and weight != 0):
                    value = term.loss(probabilities, targets[term.target], **arguments)
                self.last[name] = value.detach()
                if weight != 0:
                    # Not from a zero on: torch.compile lost the gradient of 0 + value beside the detached value.
                    total = value * weight if total is None else torch.add(total, value, alpha=weight)
            total = probabilities.new_zeros(()) if total is None else total
        # Without any active term the gradient is zero, not missing.
        return total if total.requires_grad or not logits.requires_grad else total + 0 * logits.float().sum()

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
