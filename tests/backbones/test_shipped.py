import hashlib
import json

import pytest

from bitkeras.backbones.shipped import MODELS, SHIPPED, shipped_card, shipped_names, shipped_path
from bitkeras.errors import UserError


@pytest.fixture
def models(tmp_path):
    """A folder with one model, a card without weights and weights without a card."""
    (tmp_path / "small.npz").write_bytes(b"weights")
    card = {"backbone": "R14x0.25", "sha256": hashlib.sha256(b"weights").hexdigest()}
    (tmp_path / "small.json").write_text(json.dumps(card))
    (tmp_path / "card_only.json").write_text("{}")
    (tmp_path / "weights_only.npz").write_bytes(b"")
    return tmp_path


def test_a_model_is_a_card_and_weights(models):
    assert shipped_names(models) == ("small",)
    assert shipped_card("small", models)["backbone"] == "R14x0.25"
    assert shipped_path("small", models) == models / "small.npz"


def test_an_absent_folder_holds_no_models(tmp_path):
    assert shipped_names(tmp_path / "absent") == ()


def test_an_unknown_name_lists_the_known(models):
    with pytest.raises(UserError, match="no shipped model 'large'; there are: small"):
        shipped_path("large", models)


def test_a_changed_file_is_refused(models):
    (models / "small.npz").write_bytes(b"Weights")
    with pytest.raises(UserError, match=r"small.npz is damaged \(sha256 .*install bitkeras again"):
        shipped_path("small", models)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_is_whole(name):
    assert shipped_path(name) == MODELS / f"{name}.npz"
    assert {"backbone", "stem", "image_size", "test_accuracy"} <= shipped_card(name).keys()
    assert (MODELS / f"{name}.md").is_file()
