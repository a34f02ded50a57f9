"""The operations that make a ResNet-V2 a BiT: standardised kernels, group norm, padding with zeros."""

from __future__ import annotations

import tensorflow as tf

# BiT's released code; Keras's own default of 1e-3 shifts every feature.
GROUP_NORM_EPSILON = 1e-5
WEIGHT_STANDARDIZATION_EPSILON = 1e-10
# PyTorch's defaults, which the seed paper's SimSiam runs with (Keras: 1e-3 and 0.99).
BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.9


def standardize_kernel(kernel: tf.Tensor) -> tf.Tensor:
    """Kernel [h, w, I, O] -> float32 kernel with mean 0 and variance 1 for each output channel.

    Source: Qiao et al. 2019 (arXiv 1903.10520) as released with BiT: biased variance over h, w, I.
    """
    # float32 under every policy: in float16 the epsilon 1e-10 is 0 and a constant kernel gives NaN.
    kernel = tf.cast(kernel, tf.float32)
    mean, variance = tf.nn.moments(kernel, axes=[0, 1, 2], keepdims=True)
    return (kernel - mean) / tf.sqrt(variance + WEIGHT_STANDARDIZATION_EPSILON)


@tf.keras.saving.register_keras_serializable("bitkeras")
class StandardizedConv2D(tf.keras.layers.Conv2D):
    """Conv2D that standardises its kernel at every call (weight standardisation)."""

    def add_weight(self, *args, **kwargs) -> tf.Variable:
        """Keeps the kernel from being cast when it is read under a mixed policy."""
        # Rounded to float16 before it is standardised, the kernel would lose what the division enlarges.
        return super().add_weight(*args, experimental_autocast=False, **kwargs)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Float [B, H, W, I] -> [B, H', W', O] in the layer's compute dtype."""
        kernel = standardize_kernel(self.kernel)
        return self.convolution_op(inputs, tf.cast(kernel, self.compute_dtype))


@tf.keras.saving.register_keras_serializable("bitkeras")
class GroupNormalization(tf.keras.layers.GroupNormalization):
    """Group norm over [B, H, W, C] whose statistics are float32 under every policy.

    The layer of Keras takes them in the compute dtype, where a float16 sum of squares overflows.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Float [B, H, W, C] -> the same shape and dtype."""
        batch, height, width = tf.unstack(tf.shape(inputs)[:3])
        channels = inputs.shape[-1]
        grouped = tf.reshape(tf.cast(inputs, tf.float32), [batch, height * width, self.groups, channels // self.groups])
        mean, variance = tf.nn.moments(grouped, axes=[1, 3], keepdims=True)
        gamma, beta = (
            tf.reshape(tf.cast(weight, tf.float32), [1, 1, self.groups, channels // self.groups])
            for weight in (self.gamma, self.beta)
        )
        normalized = tf.nn.batch_normalization(grouped, mean, variance, beta, gamma, self.epsilon)
        return tf.cast(tf.reshape(normalized, [batch, height, width, channels]), inputs.dtype)


def group_norm(name: str, *, groups: int) -> tf.keras.layers.Layer:
    """BiT's group norm."""
    return GroupNormalization(groups=groups, epsilon=GROUP_NORM_EPSILON, name=name)


def batch_norm(name: str) -> tf.keras.layers.Layer:
    """Batch norm at PyTorch's defaults."""
    return tf.keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=name)
