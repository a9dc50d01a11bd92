"""Learning rates of single variables: Keras's optimizers have one for all of them.

Howard & Ruder (2018) train the layers of a pretrained network the more slowly the nearer they are to its
input. An optimizer is asked for each variable's update with that variable's own rate; what it remembers, and
how it computes, stays its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

# Private methods of Keras's optimizers; where one is missing, all variables have the same rate.
HOOKS = ("_get_variable_index", "_apply_weight_decay")
log = logging.getLogger("cnnbench")


@dataclass(frozen=True)
class Rate:
    """How fast one variable is trained.

    Attributes:
        factor: times the learning rate; decoupled weight decay, which is times the rate, has it, too.
        share: a scalar variable that `factor` is multiplied by, 0 or 1; None for 1.
        pull: decoupled decay towards `anchor` in place of 0 (L2-SP, Li et al. 2018).
        anchor: a variable of the same shape; None for none.
    """

    factor: float = 1.0
    share: Any = None
    pull: float = 0.0
    anchor: Any = None

    @property
    def is_plain(self) -> bool:
        """Whether the optimizer has nothing to heed."""
        return self.factor == 1.0 and self.share is None and self.anchor is None

    def __call__(self) -> Any:
        return self.factor if self.share is None else self.factor * self.share


def set_rates(optimizer: Any, rates: Sequence[Rate]) -> bool:
    """Let an optimizer update each variable by a rate of its own.

    The moments that an optimizer keeps are of the gradients, whatever the rates: with a share of 0 they are
    kept up while the variable stays as it is. Gradients are clipped before.

    Args:
        optimizer: built; whatever its `update_step` does is done with other rates.
        rates: for each trainable variable, in the order in which it was built with them.

    Returns:
        False, with a warning, where this Keras lacks what it takes: then nothing is changed.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of the one that scales losses
    if all(rate.is_plain for rate in rates):
        return True
    if missing := [hook for hook in HOOKS if not hasattr(optimizer, hook)]:
        log.warning("this Keras has no Optimizer.%s, so every layer has the same learning rate", missing[0])
        return False
    index_of, plain_decay = (getattr(optimizer, hook) for hook in HOOKS)
    plain_step: Callable[..., None] = optimizer.update_step
    # Read once: of several devices one may look while another's share of it is set.
    whole = optimizer.weight_decay

    def update_step(gradient: Any, variable: Any, learning_rate: Any) -> None:
        rate = rates[index_of(variable)]
        if rate.is_plain:
            plain_step(gradient, variable, learning_rate)
            return
        learning_rate = learning_rate * rate()
        if rate.anchor is not None:
            optimizer.assign_sub(variable, learning_rate * rate.pull * (variable - rate.anchor))
        plain_step(gradient, variable, learning_rate)

    def apply_weight_decay(variables: Sequence[Any]) -> None:
        if whole is None:
            return
        try:
            # Keras takes the decay from the optimizer: neighbours of the same rate in one call.
            for _, group in groupby(variables, lambda one: _kind(rates[index_of(one)])):
                alike = list(group)
                optimizer.weight_decay = whole * rates[index_of(alike[0])]()
                plain_decay(alike)
        finally:
            optimizer.weight_decay = whole

    optimizer.update_step = update_step
    setattr(optimizer, HOOKS[1], apply_weight_decay)
    return True


def _kind(rate: Rate) -> tuple[float, int]:
    return rate.factor, id(rate.share)
