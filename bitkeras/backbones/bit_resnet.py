"""BiT's ResNet-V2 (arXiv 1912.11370) as a functional Keras graph.

Layers keep the names of the released checkpoints with underscores: `block1_unit01_a_conv` holds
`resnet/block1/unit01/a/standardized_conv2d/kernel`.
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from bitkeras.backbones import layers
from bitkeras.batch_norm import batch_norm

NUM_UNITS = {14: (1, 1, 1, 1), 26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
NORMS = ("group", "batch")
STEMS = ("imagenet", "cifar")


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Depth (units in each of the four stages) and width of one BiT ResNet-V2."""

    num_units: tuple[int, int, int, int]
    width: float

    @property
    def stem_channels(self) -> int:
        """Channels after the root convolution; stage i works on this times 2**i."""
        return int(64 * self.width)

    @property
    def num_groups(self) -> int:
        """Groups of every group norm: BiT's 32, and below width 1 as many channels a group as R50x1 has."""
        return int(min(32, 32 * self.width))

    @property
    def num_features(self) -> int:
        """D, the length of the feature vector: 2048 times the width."""
        return 32 * self.stem_channels


def build_bit_resnet(
    architecture: Architecture,
    *,
    name: str,
    norm: str = "group",
    stem: str = "imagenet",
    weight_standardization: bool | None = None,
    zero_init_residual: bool = False,
    num_classes: int | None = None,
) -> tf.keras.Model:
    """Images, float32 [B, H, W, 3] in [-1, 1] -> features, float32 [B, D].

    Args:
      architecture: depth and width.
      name: name of the Keras model.
      norm: "group" is BiT as released, with standardised kernels; "batch" is the network the seed paper goes on
        with, and Batch Norm its only normalisation.
      stem: "imagenet" is 7x7/2 and a 3x3/2 max-pool; "cifar" is 3x3/1 without a pool (SimSiam, appendix D).
      weight_standardization: standardise the kernels at every call, in float32; None does so under "group" only.
      zero_init_residual: start the last convolution of every unit at zero, so that each unit starts as the
        identity. SimSiam (section 4) zeroes the last BN gamma of a branch; a pre-activation unit ends
        in a convolution. For training from scratch only, and without weight standardisation.
      num_classes: K, to put BiT's 1x1 head on top; the output is then logits, float32 [B, K].

    Raises:
      ValueError: for an unknown norm or stem.
    """
    for argument, value, known in (("norm", norm, NORMS), ("stem", stem, STEMS)):
        if value not in known:
            raise ValueError(f"{argument} is {value!r}; known are {', '.join(known)}.")
    standardized = norm == "group" if weight_standardization is None else weight_standardization
    graph = _Graph(
        norm=norm,
        convolution=layers.StandardizedConv2D if standardized else tf.keras.layers.Conv2D,
        num_groups=architecture.num_groups,
        last_conv_initializer="zeros" if zero_init_residual else "he_normal",
    )
    images = tf.keras.Input([None, None, 3], name="images")
    x = graph.root(images, architecture.stem_channels, stem=stem)
    for stage, num_units in enumerate(architecture.num_units):
        middle = architecture.stem_channels * 2**stage
        for unit in range(num_units):
            stride = 2 if unit == 0 and stage > 0 else 1
            x = graph.unit(x, middle, stride, name=f"block{stage + 1}_unit{unit + 1:02d}")
    x = graph.norm_relu(x, "norm")
    # float32: a mean over 49 positions in float16 loses three digits.
    x = tf.keras.layers.GlobalAveragePooling2D(name="features", dtype="float32")(x)
    if num_classes is not None:
        x = tf.keras.layers.Dense(num_classes, name="head", kernel_initializer="zeros", dtype="float32")(x)
    return tf.keras.Model(images, x, name=name)


@dataclasses.dataclass(frozen=True)
class _Graph:
    """The choices that every layer of one network shares."""

    norm: str
    convolution: type[tf.keras.layers.Conv2D]
    num_groups: int
    last_conv_initializer: str

    def root(self, x, channels: int, *, stem: str):
        if stem == "cifar":
            return self._conv(x, channels, 3, name="root_block_conv")
        x = self._conv(x, channels, 7, stride=2, name="root_block_conv")
        # Zeros, not -inf: BiT pads before pooling, and borders would differ from the released model.
        x = tf.keras.layers.ZeroPadding2D(1, name="root_block_pool_pad")(x)
        return tf.keras.layers.MaxPooling2D(3, 2, name="root_block_pool")(x)

    def unit(self, x, middle: int, stride: int, *, name: str):
        """Pre-activation bottleneck; the stride sits in the 3x3, as in the released code."""
        h = self.norm_relu(x, f"{name}_a_norm")
        shortcut = x
        if stride > 1 or x.shape[-1] != 4 * middle:
            shortcut = self._conv(h, 4 * middle, 1, stride=stride, name=f"{name}_a_proj_conv")
        h = self._conv(h, middle, 1, name=f"{name}_a_conv")
        h = self.norm_relu(h, f"{name}_b_norm")
        h = self._conv(h, middle, 3, stride=stride, name=f"{name}_b_conv")
        h = self.norm_relu(h, f"{name}_c_norm")
        h = self._conv(h, 4 * middle, 1, name=f"{name}_c_conv", initializer=self.last_conv_initializer)
        return tf.keras.layers.Add(name=f"{name}_add")([shortcut, h])

    def norm_relu(self, x, name: str):
        norm = batch_norm(name) if self.norm == "batch" else layers.group_norm(name, groups=self.num_groups)
        return tf.keras.layers.ReLU(name=name.replace("norm", "relu"))(norm(x))

    def _conv(self, x, channels: int, size: int, *, name: str, stride: int = 1, initializer: str = "he_normal"):
        # Pad by hand and convolve VALID: TensorFlow's SAME pads a strided layer at the bottom and right only.
        if size > 1:
            x = tf.keras.layers.ZeroPadding2D(size // 2, name=name.replace("_conv", "_pad"))(x)
        return self.convolution(
            channels, size, strides=stride, use_bias=False, kernel_initializer=initializer, name=name
        )(x)
