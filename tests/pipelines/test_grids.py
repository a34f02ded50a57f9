import pytest

from bitkeras.errors import UserError
from bitkeras.evaluation.probe import LR_GRID, WEIGHT_DECAY_GRID
from pipelines import probe
from pipelines.grids import read_grids, settled_grids

DEFAULTS = {"lr_grid": "0.0003,0.001,0.003,0.01", "weight_decay_grid": "0,0.1,1,10"}
BEFORE = {"lr_grid": "0.0003,0.001,0.003", "weight_decay_grid": "0"}


def settled(**given):
    return settled_grids({**DEFAULTS, **given})


def test_defaults_are_those_of_the_library():
    probe.FLAGS.parse(["--run_dir=RUN"])
    assert probe.FLAGS.values(only=DEFAULTS) == DEFAULTS
    assert settled() == DEFAULTS
    assert read_grids(DEFAULTS) == {"lr_grid": LR_GRID, "weight_decay_grid": WEIGHT_DECAY_GRID}


def test_lists_are_read_and_written_in_one_spelling():
    options = settled(lr_grid="1e-3, .01,1", weight_decay_grid="0.50")
    assert options == {"lr_grid": "0.001,0.01,1", "weight_decay_grid": "0.5"}
    assert read_grids(options) == {"lr_grid": (1e-3, 1e-2, 1.0), "weight_decay_grid": (0.5,)}
    assert settled_grids(options) == options


def test_a_probe_of_earlier_versions_is_one_without_decay():
    assert settled(**BEFORE) == {"lr_grid": None, "weight_decay_grid": None}
    assert settled(weight_decay_grid="0") == {"lr_grid": DEFAULTS["lr_grid"], "weight_decay_grid": None}
    before = {"lr_grid": (3e-4, 1e-3, 3e-3), "weight_decay_grid": (0.0,)}
    assert read_grids({}) == read_grids(settled(**BEFORE)) == before


@pytest.mark.parametrize("flag", DEFAULTS)
@pytest.mark.parametrize("text", ["", "a", "0.1,", "0.1;0.2", "nan", "inf", "-0.1", "0.1,0.1", "0.1,1e-1", "1 2"])
def test_what_is_no_grid_is_refused_with_an_example(flag, text):
    with pytest.raises(UserError, match=f"--{flag}={text} is no list of different numbers .*--{flag}=0.001,0.01"):
        settled(**{flag: text})


def test_a_rate_of_zero_is_refused_and_no_decay_is_not():
    with pytest.raises(UserError, match="above 0"):
        settled(lr_grid="0,0.1")
    assert settled(weight_decay_grid="0,0.1")["weight_decay_grid"] == "0,0.1"


def test_help_names_the_papers_setting_and_the_published_neighbours():
    told = probe.FLAGS.help()
    assert "The paper chooses the epoch and nothing else" in told and "--weight_decay_grid=0" in told
    assert "Published: 200" in told and "0.07 by Wu et al., 0.2 by SimSiam's authors" in told
