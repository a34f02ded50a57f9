"""What the flags about the start mean together, and which of them contradict each other."""

import json

import numpy as np
import pytest

from bitkeras.backbones.norm_swap import SWAPS
from bitkeras.errors import UserError
from bitkeras.runs import RunFolder
from pipelines import pretrain, starting_point
from pipelines.starting_point import require_images, settled_start, swap_of

KNOWN = {
    "gn": {"norm": "group", "backbone": "R26x0.25", "stem": "imagenet"},
    "gn-cifar": {"norm": "group", "backbone": "R26x0.25", "stem": "cifar"},
    "gn-unknown": {"norm": "group"},
    "bn": {"norm": "batch", "weight_standardization": False, "backbone": "R26x0.25", "stem": "imagenet"},
    "bn-ws": {"norm": "batch", "weight_standardization": True, "backbone": "R26x0.25", "stem": "cifar"},
}


@pytest.fixture(autouse=True)
def weights_by_name(monkeypatch):
    def read(name):
        return starting_point.Pretrained(name, {"kernel": np.zeros(1)}, **KNOWN[name])

    monkeypatch.setattr(starting_point, "read_pretrained", read)


def settled(folder, *flags):
    pretrain.FLAGS.parse([*flags, f"--run_dir={folder}", "--data_dir=x"])
    return settled_start(RunFolder(folder), pretrain.FLAGS.values(without=["run_dir"]))[0]


def effective(folder, *flags):
    return {flag: settled(folder, *flags)[flag] for flag in ("swap", "ws", "bn_init", "bn_calibrate")}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], ("paper", "raw", "default", 0)),
        (["--swap=preserve"], ("preserve", *vars(SWAPS["preserve"]).values())),
        (["--swap=preserve", "--bn_calibrate=7"], (None, SWAPS["preserve"].ws, SWAPS["preserve"].bn_init, 7)),
        (["--ws=keep"], (None, "keep", "default", 0)),
        (["--bn_init=copy", "--ws=fold", "--bn_calibrate=0"], (None, "fold", "copy", 0)),
        # The same network has the same record.
        (["--swap=preserve", "--ws=raw", "--bn_init=default", "--bn_calibrate=0"], ("paper", "raw", "default", 0)),
    ],
)
def test_explicit_flags_override_the_preset(tmp_path, flags, expected):
    values = effective(tmp_path, "--weights=gn", *flags)
    assert tuple(values.values()) == expected
    assert vars(swap_of(settled(tmp_path, "--weights=gn", *flags))) == dict(list(values.items())[1:])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], ("R50x1", "imagenet", None)),
        (["--weights=gn"], ("R26x0.25", "imagenet", None)),
        (["--weights=gn-cifar"], ("R26x0.25", "cifar", None)),
        (["--weights=gn", "--stem=cifar"], ("R26x0.25", "cifar", "random")),
        (["--weights=gn", "--stem=cifar", "--stem_init=crop"], ("R26x0.25", "cifar", "crop")),
        (["--weights=gn-unknown"], ("R50x1", "imagenet", None)),
        (["--weights=gn-unknown", "--backbone=R50x3"], ("R50x3", "imagenet", None)),
        (["--weights="], ("R50x1", "imagenet", None)),
    ],
)
def test_weights_that_know_their_network_say_it(tmp_path, flags, expected):
    config = settled(tmp_path, *flags)
    assert tuple(config[flag] for flag in ("backbone", "stem", "stem_init")) == expected


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--swap=paper"], "there are none"),
        (["--bn_calibrate=0"], "there are none"),
        (["--stem=cifar", "--stem_init=crop"], "--stem_init=crop .* there are none"),
        (["--weights=gn", "--norm=group", "--swap=paper"], "--swap=paper .*--norm=group keeps"),
        (["--weights=gn", "--norm=group", "--ws=keep", "--bn_init=copy"], "--ws=keep and --bn_init=copy"),
        (["--weights=bn", "--bn_calibrate=9"], "--bn_calibrate=9 .* have batch norm already"),
        (["--weights=bn", "--ws=keep"], "--ws=keep .* have batch norm already"),
        (["--weights=bn", "--norm=group"], "no group norm can be made"),
        (["--weights=gn", "--backbone=R50x1"], "are of R26x0.25, and --backbone=R50x1"),
        (["--weights=gn-cifar", "--stem=imagenet"], "no 7x7 kernel"),
        (["--weights=gn", "--stem_init=crop"], "this run has the 7x7 stem"),
        (["--weights=gn", "--ws=fold", "--bn_init=match", "--bn_calibrate=0"], "--bn_init=match, .* which is 0"),
        (["--weights=gn-cifar", "--stem=cifar", "--stem_init=random"], "these weights have a 3x3 one"),
    ],
)
def test_what_contradicts_is_refused_with_the_reason(tmp_path, flags, reason):
    with pytest.raises(UserError, match=reason) as error:
        settled(tmp_path, *flags)
    assert "\n" not in str(error.value)


def test_batch_norm_weights_are_not_swapped(tmp_path):
    assert set(effective(tmp_path, "--weights=bn").values()) == {None}
    kept = {"swap": None, "ws": "keep", "bn_init": None, "bn_calibrate": None}
    assert effective(tmp_path, "--weights=bn-ws") == effective(tmp_path, "--weights=bn-ws", "--ws=keep") == kept
    assert swap_of(settled(tmp_path, "--weights=bn-ws")) is None


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--weights=gn", "--swap=preserve", "--ws=keep"],
        ["--weights=gn", "--stem=cifar"],
        ["--weights=gn", "--norm=group"],
        ["--weights=bn-ws"],
        ["--weights=bn"],
    ],
    ids=" ".join,
)
def test_a_started_run_needs_no_weights_and_its_record_can_be_typed(tmp_path, flags, monkeypatch):
    config = settled(tmp_path, *flags)
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(starting_point, "read_pretrained", lambda name: pytest.fail("weights were read"))
    assert settled(tmp_path, *flags) == config
    typed = [f"--{flag}={value}" for flag, value in config.items() if value is not None]
    assert settled(tmp_path, *typed) == config
    monkeypatch.undo()


def test_another_flag_on_a_started_run_is_not_hidden(tmp_path):
    config = settled(tmp_path, "--weights=gn")
    RunFolder(tmp_path).start(config)
    with pytest.raises(UserError, match=r"--bn_init=copy \(recorded: default\)"):
        RunFolder(tmp_path).check(settled(tmp_path, "--weights=gn", "--bn_init=copy"))


def test_a_run_of_the_first_version_was_swapped_the_papers_way():
    assert swap_of({"weights": "BiT.npz", "norm": "batch"}) == SWAPS["paper"]
    assert swap_of({"weights": "BiT.npz", "norm": "group"}) is None


def test_more_images_than_there_are_is_refused_but_a_preset_takes_all(tmp_path):
    with pytest.raises(UserError, match="--bn_calibrate=50, and there are 49"):
        require_images(50, 49)
    require_images(50, 50)
    require_images(None, 49)
