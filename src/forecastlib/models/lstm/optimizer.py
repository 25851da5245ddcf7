"""Adam in one operation a weight."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from forecastlib.errors import ConfigError


@keras.saving.register_keras_serializable(package="forecastlib")
class FastAdam(keras.optimizers.Adam):  # type: ignore[misc] # Keras ships no types
    """``keras.optimizers.Adam``, updating a weight and its moments in one operation of TensorFlow instead of many.

    A small network has many weights, and a step on a CPU spends more time on starting operations than on arithmetic.
    The arithmetic is the same (Kingma and Ba (2015), *Adam: A Method for Stochastic Optimization*, with the bias
    corrections moved into the learning rate), and so are state and configuration; ``amsgrad`` is refused.

    Examples
    --------
    >>> FastAdam(1e-3).name
    'adam'
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.amsgrad:
            raise ConfigError("expected amsgrad=False; got True, which FastAdam has not; use keras.optimizers.Adam")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a weight; Keras calls this for each of them."""
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[index]),
            v=_handle(self._velocities[index]),
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


def _handle(variable: Any) -> Any:
    return (variable if isinstance(variable, tf.Variable) else variable.value).handle
