"""An encoder, a linear head and what is familiar to them as one `tf.Module` that `tf.saved_model.save` writes small."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from bitkeras.errors import UserError
from bitkeras.evaluation.novelty import NUM_NEIGHBOURS, Familiar
from export.folding import rebuild_for_serving

TOP = 5
# protobuf's limit for a file is 2 GiB, and constants lie in saved_model.pb with everything else.
MAX_FROZEN_BYTES = 1_900_000_000


class Servable(tf.Module):
    """What is served: pixels -> embedding -> class probabilities, and how unlike the known images they are.

    It shares the encoder's variables and copies the rest; an encoder that standardises its kernels is copied with
    kernels that are standardised for good. The signatures around it are in `export.signatures`; `__call__` is what
    `hub.KerasLayer(version_dir)` runs, as it is or, with `trainable=True`, fine-tuned: gradients reach the encoder,
    whose batch norm keeps its statistics.

    Attributes:
      class_names: K unique names, in the order of the probabilities; empty for an encoder alone.
      image_size: S, the side in pixels every image is resized to.
      num_features: D.
      is_frozen: it consists of constants, and tensorflow_hub finds nothing to train.
      precision: what the encoder computes in, "float32" or "bfloat16"; what it returns is float32.
      variables, trainable_variables: the encoder's, as tensorflow_hub looks for them.
    """

    # Plain attributes in place of tf.Module's properties, which are not saved.
    variables = ()
    trainable_variables = ()

    def __init__(
        self,
        encoder: tf.keras.Model,
        head_kernel: np.ndarray | None = None,
        head_bias: np.ndarray | None = None,
        *,
        familiar: Familiar,
        class_names: Sequence[str] = (),
        image_size: int,
        freeze: bool = False,
        precision: str = "float32",
    ):
        """Check that the parts fit and trace `__call__` for any batch size.

        Args:
          encoder: functional Keras model, float32 [B, S, S, 3] in [-1, 1] -> float32 [B, D].
          head_kernel: float32 [D, K], a linear classifier of the features; None serves the encoder alone.
          head_bias: float32 [K].
          familiar: features of known images.
          class_names: K names in label order.
          image_size: S, pixels.
          freeze: constants in place of variables, and batch norm folded into the convolutions before it.
          precision: of `export.folding.PRECISIONS`.

        Raises:
          ValueError: the encoder does not compute in float32, or the shapes or names do not fit.
          UserError: the encoder is too large to be frozen.
        """
        super().__init__(name="servable")
        _require_float32(encoder)
        _require_encoder(encoder, familiar, image_size)
        self.class_names = tuple(str(name) for name in class_names)
        self.image_size = int(image_size)
        self.is_frozen, self.precision = bool(freeze), precision
        self.num_features = encoder.output_shape[-1]
        # Variables, not the model: a ResNet50V2 is then written in 3 s with 4 functions instead of 11 s with 729,
        # and the Session loader (the path of TF Serving) needs 0.7 s instead of 2.4 s.
        served = rebuild_for_serving(encoder, fold_norms=freeze, precision=precision)
        keep = _variable
        if freeze:
            keep = _constant
        else:
            self.variables = list(served.variables)
            # A step of training is lost in bfloat16.
            self.trainable_variables = list(served.trainable_variables) if precision == "float32" else []
        self.references = keep(familiar.references, "references")
        self.distances = keep(familiar.distances, "distances")
        if self.class_names or head_kernel is not None:
            kernel, bias = np.asarray(head_kernel, np.float32), np.asarray(head_bias, np.float32)
            _require_head(encoder, kernel, bias, class_names)
            self.head_kernel, self.head_bias = keep(kernel, "head_kernel"), keep(bias, "head_bias")
        # A closure is invisible to the object tracking of tf.Module; an attribute would bring the model back in.
        self._get_encoder = lambda: encoder
        run = _frozen(served, self.pixels_spec) if freeze else functools.partial(served, training=False)
        self._run = lambda images: run(images)
        self.__call__.get_concrete_function(self.pixels_spec)

    @property
    def encoder(self) -> tf.keras.Model:
        """The Keras model as it was given, for comparisons."""
        return self._get_encoder()

    @property
    def pixels_spec(self) -> tf.TensorSpec:
        """float32 [None, S, S, 3]: any batch size, one picture size, so that a server can batch requests."""
        return tf.TensorSpec([None, self.image_size, self.image_size, 3], tf.float32, name="images")

    @tf.function(autograph=False)
    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """float32 [B, S, S, 3] in [-1, 1] -> embedding, float32 [B, D]."""
        return self._run(images)

    def embed(self, images: tf.Tensor) -> tf.Tensor:
        """float32 [B, S, S, 3] in [-1, 1] -> embedding, float32 [B, D]; B may be 0."""
        return self(_never_empty(images))[: tf.shape(images)[0]]

    def answer(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """float32 [B, S, S, 3] in [-1, 1] -> what the signatures return.

        Returns:
          embedding: float32 [B, D].
          ood_score: float32 [B] in [0, 1], the share of validation images that are nearer to the known ones.
          And with a head:
          classes: string [B, K], the names in the order of `probabilities`, the same in every row.
          probabilities: float32 [B, K], rows sum to 1.
          prediction: string [B], the most likely class.
          top_classes, top_probabilities: [B, min(K, 5)], the likeliest first.
        """
        embedding = self.embed(images)
        answer = {"embedding": embedding, "ood_score": self.ood_score(embedding)}
        return {**answer, **self._classify(embedding)} if self.class_names else answer

    def ood_score(self, embedding: tf.Tensor) -> tf.Tensor:
        """`novelty` of `bitkeras.evaluation.novelty`, as a graph."""
        # A row of zeros stays zero: its cosine to everything is 0.
        length = tf.maximum(tf.norm(embedding, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        cosines = tf.linalg.matmul(embedding / length, self.references, transpose_b=True)
        nearest = tf.math.top_k(cosines, k=min(NUM_NEIGHBOURS, self.references.shape[0])).values
        places = tf.searchsorted(self.distances, 1 - nearest[:, -1])
        return tf.cast(places, tf.float32) / self.distances.shape[0]

    def _classify(self, embedding: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = tf.nn.softmax(tf.linalg.matmul(embedding, self.head_kernel) + self.head_bias)
        names = tf.constant(self.class_names)
        top = tf.math.top_k(probabilities, k=min(TOP, len(self.class_names)))
        return {
            # Repeated for every row: a scalar or [K] output breaks REST's row form and server-side batching.
            "classes": tf.tile(names[tf.newaxis], [tf.shape(embedding)[0], 1]),
            "probabilities": probabilities,
            "prediction": tf.gather(names, tf.argmax(probabilities, axis=-1)),
            "top_classes": tf.gather(names, top.indices),
            "top_probabilities": top.values,
        }


def _variable(values: np.ndarray, name: str) -> tf.Variable:
    return tf.Variable(np.asarray(values, np.float32), trainable=False, name=name)


def _constant(values: np.ndarray, name: str) -> tf.Tensor:
    return tf.constant(np.asarray(values, np.float32), name=name)


def _frozen(encoder: tf.keras.Model, spec: tf.TensorSpec):
    """The encoder as a function with constants; every signature calls the same one, so they are written once."""
    num_bytes = sum(variable.shape.num_elements() * variable.dtype.size for variable in encoder.variables)
    if num_bytes > MAX_FROZEN_BYTES:
        raise UserError(
            f"The encoder has {num_bytes / 1e9:.2f} GB of weights; constants must stay below "
            f"{MAX_FROZEN_BYTES / 1e9:g} GB, so push it without --freeze."
        )

    @tf.function(input_signature=[spec], autograph=False)
    def encode(images):
        # A Session forgets the shape of what it is fed, and without it an addition is not joined to its convolution.
        return encoder(tf.reshape(images, [-1, *spec.shape[1:]]), training=False)

    frozen = convert_variables_to_constants_v2(encode.get_concrete_function())

    def run(images: tf.Tensor) -> tf.Tensor:
        return tf.nest.flatten(frozen(images))[0]

    return run


def _never_empty(images: tf.Tensor) -> tf.Tensor:
    # oneDNN's Conv2D gives an empty batch the shape of its input (TF 2.15.1), and the next layer fails on it.
    # Not tf.pad: oneDNN fuses it into the convolution, which then fails in the same way.
    missing = tf.cast(tf.shape(images)[0] == 0, tf.int32)
    return tf.concat([images, tf.zeros([missing, *images.shape[1:]])], axis=0)


def _require_float32(encoder: tf.keras.Model) -> None:
    # A mixed_float16 graph answers in float16, which REST cannot write as JSON, and is 1.4x slower on a CPU.
    layers = [encoder, *(layer for layer in encoder.submodules if isinstance(layer, tf.keras.layers.Layer))]
    for layer in layers:
        if layer.compute_dtype != "float32":
            raise ValueError(
                f"The encoder's layer {layer.name} computes in {layer.compute_dtype}; a served encoder must compute in "
                "float32, so build it again under the float32 policy and set_weights."
            )


def _require_encoder(encoder, familiar, image_size) -> None:
    if encoder.input_shape[1:] not in ((image_size, image_size, 3), (None, None, 3)):
        raise ValueError(f"The encoder takes {encoder.input_shape}, which does not fit an image_size of {image_size}.")
    if len(encoder.output_shape) != 2:
        raise ValueError(f"The encoder returns {encoder.output_shape}; it must return [B, D].")
    if familiar.references.shape[1:] != encoder.output_shape[1:] or not len(familiar.distances):
        raise ValueError(
            f"The features of known images are {familiar.references.shape} with {len(familiar.distances)} distances; "
            f"they must be [M, {encoder.output_shape[-1]}] with at least one."
        )


def _require_head(encoder, kernel, bias, class_names) -> None:
    num_classes = len(class_names)
    if num_classes < 2 or len({str(name) for name in class_names}) != num_classes:
        raise ValueError(f"At least two class names, each once, are needed; got {list(class_names)}.")
    if kernel.shape != (encoder.output_shape[-1], num_classes) or bias.shape != (num_classes,):
        raise ValueError(
            f"The head must have a kernel [D, K] and a bias [K] with D = {encoder.output_shape[-1]} features and "
            f"K = {num_classes} class names; got {kernel.shape} and {bias.shape}."
        )
