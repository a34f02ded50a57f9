"""SGD with momentum in one pass over each weight."""

from __future__ import annotations

import tensorflow as tf


@tf.keras.saving.register_keras_serializable("bitkeras")
class SGD(tf.keras.optimizers.SGD):
    """Keras's SGD with momentum, its update as one operation: `m = momentum * m - rate * g`, `w += m`.

    Keras's own takes five passes over memory, which is some percent of a step on a processor (docs/results/speed.md).
    """

    def update_step(self, gradient, variable) -> None:
        """Moves one variable; a gradient [shape of the variable], dense."""
        if not self.momentum:
            super().update_step(gradient, variable)
            return
        momentum = self.momentums[self._index_dict[self._var_key(variable)]]
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=momentum.handle,
            lr=tf.cast(self.learning_rate, variable.dtype),
            grad=gradient,
            momentum=tf.cast(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )
