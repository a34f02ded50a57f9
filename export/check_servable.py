"""Run a SavedModel as a stranger would: `python -m export.check_servable DIR INPUT.npz OUTPUT.npz`.

Imports tensorflow and numpy only, so that an answer proves that the folder needs no code of ours. It judges
nothing: it reports what came out, and `export.validation` compares.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import tensorflow as tf


def main(saved_model_dir: str, input_path: str, output_path: str) -> None:
    """Load `saved_model_dir`, answer the images of `input_path`, write the answers and a report."""
    images, pixels = read_images(input_path)
    loaded = tf.saved_model.load(saved_model_dir)
    serve = loaded.signatures["serving_default"]
    answers = {
        "batch": to_numpy(serve(image_bytes=tf.constant(images))),
        "alone": join([to_numpy(serve(image_bytes=tf.constant([image]))) for image in images]),
        "pixels": to_numpy(loaded.signatures["pixels"](images=tf.constant(pixels))),
        "damaged": to_numpy(serve(image_bytes=tf.constant([images[0][:20], *images, b"no image"]))),
        "examples": to_numpy(loaded.signatures["examples"](examples=tf.constant([example(image) for image in images]))),
        "embed": to_numpy(loaded.signatures["embed"](image_bytes=tf.constant(images))),
        "call": {"embedding": loaded(tf.constant(pixels)).numpy()},
    }
    arrays = {f"{run}/{name}": value for run, answer in answers.items() for name, value in answer.items()}
    report = {
        "ops": {name: sorted(reachable_ops(signature)) for name, signature in loaded.signatures.items()},
        "outputs": {name: describe_outputs(signature) for name, signature in loaded.signatures.items()},
        "modules": sorted({name.split(".")[0] for name in sys.modules}),
    }
    np.savez(output_path, report=json.dumps(report), **arrays)


def read_images(input_path: str) -> tuple[list[bytes], np.ndarray]:
    """The encoded images and the same as pixels, float32 [N, S, S, 3]."""
    with np.load(input_path) as given:
        ends = np.cumsum(given["lengths"])
        buffer, pixels = given["bytes"].tobytes(), given["pixels"]
    return [buffer[end - length : end] for end, length in zip(ends, np.diff(ends, prepend=0))], pixels


def example(image: bytes) -> bytes:
    """A serialised tf.Example with nothing in it but an image."""
    feature = {"image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def to_numpy(answer: dict) -> dict[str, np.ndarray]:
    """Tensors to arrays; strings to unicode, since a file without pickle holds no objects."""
    return {
        name: np.char.decode(tensor.numpy().astype("S"), "utf-8") if tensor.dtype == tf.string else tensor.numpy()
        for name, tensor in answer.items()
    }


def join(answers: list[dict]) -> dict[str, np.ndarray]:
    """Answers to one image each -> the answer to all."""
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def reachable_ops(signature) -> set[str]:
    """The op types of a signature and of every function it calls, however deep."""
    graph = signature.graph.as_graph_def()
    bodies = {function.signature.name: function.node_def for function in graph.library.function}
    ops, seen, waiting = set(), set(), [graph.node]
    while waiting:
        for node in waiting.pop():
            ops.add(node.op)
            called = {node.op}
            for attr in node.attr.values():
                called.update(function.name for function in [attr.func, *attr.list.func])
            fresh = (called & bodies.keys()) - seen
            seen |= fresh
            waiting.extend(bodies[name] for name in fresh)
    return ops - bodies.keys()


def describe_outputs(signature) -> dict[str, dict]:
    """{output name: {"dtype", "shape"}}, as written in the SavedModel."""
    return {
        name: {"dtype": spec.dtype.name, "shape": None if spec.shape.rank is None else spec.shape.as_list()}
        for name, spec in signature.structured_outputs.items()
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
