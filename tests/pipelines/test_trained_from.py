"""Sources whose images a function gives, on their way into batches and through a training run."""

import io

import numpy as np
import pytest
from PIL import Image
from small_road import pretrain_flags

from bitkeras.data import read_source
from bitkeras.data.batches import image_batches
from bitkeras.data.preprocess import resize
from bitkeras.runs import RunFolder
from pipelines import cli

pytestmark = pytest.mark.slow


def write_medmnist(folder):
    rng, held = np.random.default_rng(0), {}
    for part, number in (("train", 60), ("val", 10), ("test", 14)):
        held[f"{part}_images"] = rng.integers(0, 256, (number, 28, 28, 3), dtype=np.uint8)
        held[f"{part}_labels"] = (np.arange(number) % 3)[:, None].astype(np.uint8)
    np.savez_compressed(folder / "dermamnist.npz", **held)
    return folder / "dermamnist.npz"


def write_dicom(folder):
    reason = "DICOM is not installed: pip install -e '.[dicom]'"
    pydicom = pytest.importorskip("pydicom", minversion="3.0", reason=reason)
    pytest.importorskip("imagecodecs", reason=reason)
    shipped = pydicom.data.get_testdata_file("examples_ybr_color.dcm", download=False)
    for number in range(3):
        (folder / f"{number}.dcm").write_bytes(open(shipped, "rb").read())
    return folder


@pytest.mark.parametrize("name, write", [("medmnist", write_medmnist), ("dicom", write_dicom)])
def test_batches_hold_what_pillow_shows_and_a_run_trains_on_them(name, write, tmp_path):
    (tmp_path / "data").mkdir()
    place = write(tmp_path / "data")
    source = read_source(name, place)
    batches = list(image_batches(source, np.arange(len(source)), image_size=32, batch_size=16))
    shown = [np.asarray(Image.open(io.BytesIO(source.read(index))).convert("RGB")) for index in range(len(source))]
    expected = np.stack([resize(pixels, 32) for pixels in shown]) / 127.5 - 1
    np.testing.assert_allclose(np.concatenate(batches), expected, atol=1e-6)
    cli.run("pretrain", pretrain_flags(place, tmp_path / "run", f"--dataset={name}", "--epochs=1", "--batch_size=16"))
    assert RunFolder(tmp_path / "run").is_finished
