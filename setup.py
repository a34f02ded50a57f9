"""Packages, requirements and the `bitkeras` command; the exact versions are in constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version():
    """The `__version__` line of bitkeras/__init__.py, read as text so that nothing is imported."""
    text = (ROOT / "bitkeras" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE).group(1)


# 2.69 is the last for Python 3.9, and 2.72 goes with the TFX 1.15 libraries.
BEAM = ["apache-beam>=2.69,<2.73"]
# pydicom 3, which decodes single frames, is for Python 3.10 and later.
DICOM = ["pydicom>=3,<4; python_version >= '3.10'", "imagecodecs; python_version >= '3.10'"]
# onnx 1.19 needs a newer ml-dtypes than TensorFlow 2.15 allows, and does not say so; 1.18 needs protobuf 4.25, which
# the TFX libraries for Python 3.9 and 3.10 do not take, so that there is only OpenVINO there.
ONNX = ["tf2onnx>=1.17", "onnx==1.18.0", "onnxruntime"]
CONVERT = [*(f"{name}; python_version >= '3.11'" for name in ONNX), "openvino; python_version >= '3.10'"]
# 2.15.1 is the one for TensorFlow 2.15; it names the distribution `tensorflow`, not tensorflow-cpu.
SERVE = ["tensorflow-serving-api==2.15.1", "grpcio"]
# The libraries of TFX that go with TensorFlow 2.15 (`tfx` does not); for older Pythons they want another protobuf.
TFX = [
    *("tfx-bsl==1.15.1", "tensorflow-data-validation==1.15.1", "tensorflow-model-analysis==0.46.0"),
    "ml-metadata==1.17.1",
    # Beam 2.72 no longer brings it along, and TensorFlow Data Validation does not say that it needs it.
    "dill==0.3.1.1",
]
TFX = [f"{name}; python_version >= '3.11'" for name in TFX]

setup(
    name="bitkeras",
    version=read_version(),
    description="Big Transfer (BiT) networks and SimSiam pre-training in Keras, from folders of images to serving",
    # TensorFlow 2.15.1 has wheels for these three and no others.
    python_requires=">=3.9,<3.12",
    packages=find_packages(include=["bitkeras*", "pipelines*", "export*"]),
    package_data={
        "pipelines": ["presets/*.flags"],
        "bitkeras.backbones": ["models/*"],
        "bitkeras.evaluation": ["page/*"],
        "export": ["demo/**/*"],
    },
    install_requires=[
        "tensorflow==2.15.1",
        "tensorflow-hub==0.16.1",
        "keras-cv==0.9.0",
        "tensorflow-addons==0.23.0",
        # TensorFlow Addons' TQDMProgressBar needs tqdm and does not declare it.
        "tqdm",
        # The client of model servers; tensorflow-datasets and TensorBoard bring it along.
        "requests",
        "numpy<2",
        # Reads TIFF, GIF and the BMPs that TensorFlow does not; 10.1 tells transparency.
        "pillow>=10.1",
        "scikit-learn",
        "scipy",
        "absl-py",
        "matplotlib",
        # tensorflow_hub and TensorBoard 2.15 import pkg_resources, which setuptools 81 dropped.
        "setuptools<81",
        # tensorflow-datasets (required by keras-cv) must find a generated protobuf 4 module here, not a protobuf 5 one.
        "tensorflow-metadata<1.16",
    ],
    extras_require={
        "gpu": ["tensorflow[and-cuda]==2.15.1"],
        "beam": BEAM,
        "dicom": DICOM,
        "serve": SERVE,
        "convert": CONVERT,
        "tfx": TFX,
        "dev": ["pytest", "pytest-timeout", "pytest-xdist", "ruff", *BEAM, *DICOM, *SERVE, *TFX],
    },
    entry_points={"console_scripts": ["bitkeras = pipelines.cli:main"]},
)
