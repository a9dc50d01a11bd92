"""Optimizer that Keras lacks, registered with it."""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal

import keras
from keras import ops
from pydantic import Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# Private methods of Keras's Muon; where one is missing, ours computes as Keras's.
HOOKS = ("_should_use_adamw", "_muon_update_step", "_apply_weight_decay")
log = logging.getLogger("cnnbench")


@keras.saving.register_keras_serializable("cnnbench")
class Muon(keras.optimizers.Muon):
    """Muon (Jordan et al. 2024), for kernels of convolutions too, which Keras's own leaves to Adam.

    Each kernel of a convolution, read as a matrix of ``filters`` rows, is moved along the nearest orthogonal
    matrix to its momentum, and held at the length of ``sqrt(filters)``, as in Jordan's *airbench*. All else
    is trained by Adam with ``adam_lr_ratio`` times the learning rate: biases, normalisation, dense layers,
    depthwise kernels, and every variable whose path holds a word of `exclude_layers`. Or by SGD, as there.
    Not for pretrained kernels, whose length would change.

    Args:
        learning_rate: of the kernels.
        momentum: of the kernels.
        ns_steps: Newton-Schulz iterations towards the orthogonal matrix.
        nesterov: look ahead by the momentum.
        adam_lr_ratio: Adam's learning rate over `learning_rate`.
        adam_beta_1: Adam's first decay.
        adam_beta_2: Adam's second decay.
        adam_weight_decay: decoupled, of the variables that Adam or SGD trains.
        all_else: what trains all but the kernels: `adam` or `sgd`.
        sgd_lr_ratio: the learning rate of SGD over `learning_rate`; for the mean loss over a batch.
        sgd_momentum: of SGD, which is Nesterov's where `nesterov` is.
        bias_lr_scale: the learning rate of biases and normalisation over that of the others of `all_else`.
        exclude_layers: regular expressions; convolutions whose path has one are left to Adam.
        **kwargs: of every Keras optimizer.
    """

    def __init__(
        self,
        learning_rate: Any = 0.1,
        momentum: Annotated[float, Field(ge=0, lt=1)] = 0.6,
        ns_steps: Annotated[int, Field(ge=1)] = 3,
        nesterov: bool = True,
        adam_lr_ratio: Positive = 0.05,
        adam_beta_1: Annotated[float, Field(ge=0, lt=1)] = 0.9,
        adam_beta_2: Annotated[float, Field(ge=0, lt=1)] = 0.99,
        adam_weight_decay: Decay = 0.0,
        exclude_layers: list[str] | None = None,
        all_else: Literal["adam", "sgd"] = "adam",
        sgd_lr_ratio: Positive = 5600.0,
        sgd_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.85,
        bias_lr_scale: Positive = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            learning_rate=learning_rate,
            momentum=momentum,
            ns_steps=ns_steps,
            nesterov=nesterov,
            adam_lr_ratio=adam_lr_ratio,
            adam_beta_1=adam_beta_1,
            adam_beta_2=adam_beta_2,
            adam_weight_decay=adam_weight_decay,
            exclude_layers=exclude_layers,
            **{**kwargs, "weight_decay": None, "rms_rate": None},
        )
        self.all_else, self.sgd_lr_ratio, self.sgd_momentum = all_else, sgd_lr_ratio, sgd_momentum
        self.bias_lr_scale = bias_lr_scale
        missing = [hook for hook in HOOKS if not hasattr(keras.optimizers.Muon, hook)]
        self._has_hooks = not missing
        if missing:
            log.warning(
                "this Keras has no Muon.%s, so convolutions are trained by Adam, as Keras does", missing[0]
            )

    def _should_use_adamw(self, variable: Any) -> bool:
        if not self._has_hooks:
            return bool(super()._should_use_adamw(variable))
        if len(variable.shape) != 4 or variable.shape[-1] == 1:  # of a depthwise one each filter stands alone
            return True
        # Keras looks at words only in what has two axes.
        return bool(super()._should_use_adamw(_Flat(variable)))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        # Where there is a velocity, Keras leaves the variable to Adam.
        if self.adam_velocities[self._get_variable_index(variable)] is not None:
            if len(variable.shape) == 1 and self.bias_lr_scale != 1:
                learning_rate = learning_rate * self.bias_lr_scale
            if self.all_else == "sgd":
                self._sgd_update_step(gradient, variable, learning_rate * self.sgd_lr_ratio)
                return
        super().update_step(gradient, variable, learning_rate)

    def _sgd_update_step(self, gradient: Any, variable: Any, lr: Any) -> None:
        gathered = self.momentums[self._get_variable_index(variable)]
        self.assign(gathered, ops.add(gradient, self.sgd_momentum * gathered))
        step = ops.add(gradient, self.sgd_momentum * gathered) if self.nesterov else gathered
        self.assign_sub(variable, ops.cast(lr, variable.dtype) * step)

    def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
        if not self._has_hooks:
            super()._muon_update_step(gradient, variable, lr, m)
            return
        self.assign(m, ops.add(gradient, self.momentum * m))
        direction = ops.add(gradient, self.momentum * m) if self.nesterov else m
        rows = ops.transpose(ops.reshape(direction, (-1, variable.shape[-1])))
        # The iteration bears bfloat16 well (not float16, whose range is small): as the network, so this.
        if keras.config.dtype_policy().compute_dtype == "bfloat16":
            rows = ops.cast(rows, "bfloat16")
        update = ops.transpose(self.zeropower_via_newtonschulz5(rows, self.ns_steps))
        update = ops.cast(update, variable.dtype)
        length = ops.norm(ops.reshape(variable, (-1,)))
        held = variable * (variable.shape[-1] ** 0.5 / (length + self.epsilon))
        self.assign(variable, held - lr * ops.reshape(update, variable.shape))

    def _apply_weight_decay(self, variables: list[Any]) -> None:
        if self._has_hooks:  # not for the kernels: their length is held
            variables = [one for one in variables if self._should_use_adamw(one)]
        super()._apply_weight_decay(variables)

    def get_config(self) -> dict[str, Any]:
        names = ("all_else", "sgd_lr_ratio", "sgd_momentum", "bias_lr_scale")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


class _Flat:
    """Stand-in for a variable of two axes, with what Keras asks of it."""

    def __init__(self, variable: Any) -> None:
        self.path, self.shape = variable.path, (1, 1)
