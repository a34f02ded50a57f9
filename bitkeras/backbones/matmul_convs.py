"""The convolutions of a network as matrix products, where a processor is faster at these.

oneDNN gets through the gradient of a 3x3 kernel at a third to a fifth of the speed of its other passes where positions
are few and channels many, in bfloat16 above all, and a 1x1 convolution of it costs up to three times the matrix product
that it is (docs/results/speed.md). What is computed is the same, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

# Below, gathering the patches costs more than the product saves.
_MIN_CHANNELS = 128


def use_matmuls(network: tf.keras.Model) -> None:
    """Makes the convolutions of `network` matrix products, where there is no GPU; cuDNN needs no such help.

    Layers, weights and the file that they are saved to stay what they are. To be called before anything is traced.
    """
    if tf.config.list_logical_devices("GPU"):
        return
    for layer in network.layers:
        # Not of a class of its own: an encoder with batch norm loads in Keras without bitkeras.
        if isinstance(layer, tf.keras.layers.Conv2D) and layer.groups == 1 and layer.dilation_rate == (1, 1):
            if layer.kernel_size == (1, 1):
                layer.convolution_op = _pointwise(layer.strides)
            elif layer.input_spec.axes[-1] >= _MIN_CHANNELS and (layer.padding == "valid" or layer.strides == (1, 1)):
                layer.convolution_op = _with_matmul_gradient(layer.strides, layer.padding.upper())


def _pointwise(strides: tuple[int, int]) -> Callable[..., tf.Tensor]:
    """([B, H, W, I], [1, 1, I, O]) -> [B, H', W', O]."""

    def convolve(inputs, kernel):
        if strides != (1, 1):
            # Pooling over single positions takes a fifth of the time of a strided slice.
            inputs = tf.nn.avg_pool2d(inputs, 1, strides, "VALID")
        kernel = tf.reshape(kernel, kernel.shape[2:])
        outputs = tf.matmul(tf.reshape(inputs, [-1, kernel.shape[0]]), kernel)
        return tf.reshape(outputs, tf.concat([tf.shape(inputs)[:3], kernel.shape[1:]], axis=0))

    return convolve


def _with_matmul_gradient(strides: tuple[int, int], padding: str) -> Callable[..., tf.Tensor]:
    """([B, H, W, I], [h, w, I, O]) -> [B, H', W', O], where the gradient of the kernel is one product."""

    @tf.custom_gradient
    def convolve(inputs, kernel):
        def gradient(upstream):
            sizes = {"input_sizes": tf.shape(inputs), "strides": [1, *strides, 1], "padding": padding}
            dinputs = tf.raw_ops.Conv2DBackpropInput(filter=kernel, out_backprop=upstream, **sizes)
            patches = _patches(inputs, tf.shape(upstream), kernel.shape[:2], strides, padding)
            patches = tf.reshape(patches, [-1, kernel.shape[:3].num_elements()])
            dkernel = tf.matmul(patches, tf.reshape(upstream, [-1, kernel.shape[3]]), transpose_a=True)
            return dinputs, tf.reshape(dkernel, kernel.shape)

        return tf.nn.conv2d(inputs, kernel, strides, padding), gradient

    return lambda inputs, kernel: convolve(inputs, tf.convert_to_tensor(kernel))


def _patches(inputs, output_shape, kernel_size, strides, padding: str) -> tf.Tensor:
    """[B, H, W, I] -> [B, H' W' h w, I], what each position of the output is made of."""
    if padding == "SAME":
        borders = [[(side - 1) // 2, side // 2] for side in kernel_size]
        inputs = tf.pad(inputs, [[0, 0], *borders, [0, 0]])
    shape = tf.shape(inputs)
    rows, columns = (
        stride * tf.range(length)[:, tf.newaxis] + tf.range(side)
        for stride, length, side in zip(strides, (output_shape[1], output_shape[2]), kernel_size)
    )
    # tf.image.extract_patches does the same in 3 to 8 times the time (bfloat16, 2x2 to 8x8 positions).
    places = rows[:, tf.newaxis, :, tf.newaxis] * shape[2] + columns[:, tf.newaxis, :]
    return tf.gather(tf.reshape(inputs, [shape[0], -1, inputs.shape[-1]]), tf.reshape(places, [-1]), axis=1)
