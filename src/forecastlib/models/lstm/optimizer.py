"""Adam with one operation per weight."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from forecastlib.errors import ConfigError


@keras.saving.register_keras_serializable(package="forecastlib")
class FastAdam(keras.optimizers.Adam):  # type: ignore[misc] # Keras ships no types
    """``keras.optimizers.Adam`` that updates a weight and its moments in a single TensorFlow operation.

    A small network has many weights, and on a CPU the overhead of starting operations exceeds the arithmetic. The
    arithmetic is the same (Kingma and Ba (2015), *Adam: A Method for Stochastic Optimization*, with the bias correction
    applied to the learning rate), and so are state and configuration. ``amsgrad`` is not supported.

    Examples
    --------
    >>> FastAdam(1e-3).name
    'adam'
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.amsgrad:
            raise ConfigError("FastAdam does not support amsgrad=True; use keras.optimizers.Adam")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a weight. Called by Keras for each of them."""
        index = self._get_variable_index(variable)  # Keras gives subclasses no public name for the state of a weight
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
