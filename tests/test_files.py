import pytest

from bitkeras.files import written_atomically


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "below" / "scores.json"
    with written_atomically(path) as beside:
        beside.write_text("new")
        assert not path.exists() and beside.parent == path.parent and beside.suffix == ".json"
    assert path.read_text() == "new"
    assert [file.name for file in path.parent.iterdir()] == ["scores.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_inside_leaves_the_old_file_and_nothing_beside(tmp_path, error):
    path = tmp_path / "scores.json"
    path.write_text("old")
    with pytest.raises(error), written_atomically(path) as beside:
        beside.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_meets_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text("old")
    with written_atomically(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
