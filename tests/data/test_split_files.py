"""Splits as tables: a run's own come back as they were, one that somebody brings is taken by its word or refused."""

import csv
import dataclasses
import os

import numpy as np
import pytest
from made_tables import skin, source_of

from bitkeras.data.split_files import load_split, require_parts, save_split, with_lesions_of
from bitkeras.data.splits import PARTS, Split, paper_split, unlabelled_split, with_fewer_to_train_on
from bitkeras.errors import UserError


@pytest.mark.parametrize("source", [skin(40), dataclasses.replace(skin(40), groups=None)], ids=["lesions", "none"])
def test_saved_split_comes_back(source, tmp_path):
    split = paper_split(source, seed=0)
    path = tmp_path / "run" / "split.csv"
    save_split(split, source, path)
    save_split(split, source, path)
    assert os.listdir(path.parent) == ["split.csv"]
    assert (load_split(path, source).parts == split.parts).all()
    lines = list(csv.reader(path.read_text().splitlines()))
    assert lines[0] == ["image_id", "lesion_id", "class", "part"] and len(lines) == len(source) + 1
    reordered = source.take(np.arange(len(source))[::-1])
    assert (load_split(path, reordered).parts == split.parts[::-1]).all()


def test_unlabelled_split_comes_back(tmp_path):
    source = dataclasses.replace(skin(40), labels=None, class_names=(), groups=None)
    save_split(unlabelled_split(source), source, tmp_path / "s.csv")
    assert (load_split(tmp_path / "s.csv", source).parts == "pretrain").all()


def test_unused_images_come_back(tmp_path):
    source = skin(40)
    split = with_fewer_to_train_on(paper_split(source, seed=0), 5, seed=0)
    save_split(split, source, tmp_path / "s.csv")
    assert (load_split(tmp_path / "s.csv", source).parts == split.parts).all()


def test_split_of_other_data_is_refused(tmp_path):
    source = skin(40)
    path = tmp_path / "split.csv"
    save_split(paper_split(source, seed=0), source, path)
    with pytest.raises(UserError, match="0 are not in it and it names 1 more .*im_00000 is only in the split"):
        load_split(path, source.take(np.arange(1, len(source))))
    with pytest.raises(UserError, match="1 are not in it .*other is not in the split"):
        load_split(path, dataclasses.replace(source, image_ids=np.array(["other", *source.image_ids[1:]])))
    changed = dataclasses.replace(source, labels=(source.labels + 1) % 7)
    with pytest.raises(UserError, match="has image im_00000 as class"):
        load_split(path, changed)
    with pytest.raises(UserError, match="has image im_00000 as class .* of lesion"):
        load_split(path, dataclasses.replace(source, groups=np.roll(source.groups, 1)))


@pytest.mark.parametrize(
    "content, expected",
    [
        (None, "cannot be read"),
        ("", "is no split"),
        ("a,b\n1,2\n", "is no split: its columns must be image_id"),
        ("image_id,lesion_id,class,part\nim_00000,,class0,train\n", "puts image im_00000 into 'train'"),
        ("image,part\nim_00000,test\nim_00001\n", "puts image im_00001 into ''"),
        ("image,part\nim_00000,test\n,test\n", "names no image in row 2"),
        ("image,image_id,part\na,a,test\n", "is no split: .* are image_id, image_id, part"),
        ("image,part\nim_00000,test\nim_00001,test\n", "8 are not in it and it names 0 more .*im_00002 is not"),
        ("image_id,lesion_id,class,part\nim_00000,,,test\nim_00000,,,test\n", "im_00000 stands 2 times"),
    ],
)
def test_file_that_is_no_split(content, expected, tmp_path):
    path = tmp_path / "split.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=expected):
        load_split(path, source_of([0] * 10))


BROUGHT = {
    "all columns": ("image,lesion,class,part", "{image},{lesion},{label},{part}"),
    "two columns": ("image_id,part", "{image},{part}"),
    "other order and more": ("Part, age ,IMAGE,lesion_id", "{part},55,{image},{lesion}"),
    "tabs": ("image\tpart", "{image}\t{part}"),
    "semicolons": ("image;part;age, sex", "{image};{part};5,m"),
}


def written(path, source, parts, header, line, encoding="utf-8"):
    rows = [
        line.format(image=image, lesion=lesion, label=source.class_names[label], part=part)
        for image, lesion, label, part in zip(source.image_ids, source.groups, source.labels, parts)
    ]
    path.write_text("\n".join([header, *rows]) + "\n", encoding=encoding)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("form", BROUGHT)
def test_a_table_that_one_brings(form, encoding, tmp_path):
    source = skin(40)
    parts = np.random.default_rng(0).choice([*PARTS, "unused"], len(source))
    table = written(tmp_path / "mine.csv", source, parts, *BROUGHT[form], encoding)
    assert (load_split(table, source).parts == parts).all()
    # What it does not say is not asked for, and what it says must agree.
    other = dataclasses.replace(source, labels=(source.labels + 1) % 7)
    if form == "all columns":
        with pytest.raises(UserError, match="as class"):
            load_split(table, other)
    else:
        assert (load_split(table, other).parts == parts).all()


def test_a_run_takes_the_split_of_another_run(tmp_path):
    source = skin(40)
    split = paper_split(source, seed=5)
    save_split(split, source, tmp_path / "split.csv")
    assert (load_split(tmp_path / "split.csv", source).parts == split.parts).all()


def test_lesions_of_a_table_are_taken_where_none_are_known(tmp_path):
    source = skin(40)
    table = written(tmp_path / "mine.csv", source, paper_split(source, seed=0).parts, *BROUGHT["all columns"])
    nameless = dataclasses.replace(source, groups=None)
    assert (with_lesions_of(table, nameless).groups == source.groups).all()
    assert with_lesions_of(table, source) is source
    # Written beside the run, they come back from there too.
    save_split(paper_split(source, seed=0), with_lesions_of(table, nameless), tmp_path / "split.csv")
    again = with_lesions_of(tmp_path / "split.csv", nameless)
    assert (load_split(tmp_path / "split.csv", again).parts == paper_split(source, seed=0).parts).all()
    save_split(paper_split(source, seed=0), nameless, tmp_path / "split.csv")
    assert with_lesions_of(tmp_path / "split.csv", nameless) is nameless


def test_lesions_of_some_images_only_are_refused(tmp_path):
    (tmp_path / "mine.csv").write_text("image,part,lesion\nim_00000,test,a\nim_00001,test,\n")
    with pytest.raises(UserError, match="none for im_00001; name one"):
        with_lesions_of(tmp_path / "mine.csv", source_of([0, 0]))
    with pytest.raises(UserError, match="1 are not in it"):
        with_lesions_of(tmp_path / "mine.csv", source_of([0, 0, 0]))


def test_a_table_must_have_images_for_every_part_that_is_needed(tmp_path):
    source = source_of([0, 0, 0, 0])
    (tmp_path / "mine.csv").write_text("image,part\n" + "".join(f"im_0000{n},{PARTS[n % 3]}\n" for n in range(4)))
    split = load_split(tmp_path / "mine.csv", source)
    require_parts(split, tmp_path / "mine.csv", PARTS[:3])
    with pytest.raises(UserError, match=r"mine.csv leaves test without images"):
        require_parts(split, tmp_path / "mine.csv", PARTS)


def test_a_table_may_name_images_that_are_in_no_part_or_cannot_be_used(tmp_path):
    """A photo that has gone bad must not make its table useless, nor one that the table itself leaves out."""
    source, path = skin(40), tmp_path / "split.csv"
    parts = paper_split(source, seed=0).parts
    parts[3] = "unused"
    save_split(Split(parts), source, path)
    every = np.arange(len(source))
    without_one, without_two = source.take(np.delete(every, 3)), source.take(np.delete(every, [3, 5]))
    assert (load_split(path, without_one).parts == np.delete(parts, 3)).all()
    with pytest.raises(UserError, match="it names 1 more"):
        load_split(path, without_two)
    known = dataclasses.replace(without_two, left_out=(str(source.image_ids[5]),))
    assert (load_split(path, known).parts == np.delete(parts, [3, 5])).all()
    nameless = dataclasses.replace(known, groups=None)
    assert with_lesions_of(path, nameless).groups.tolist() == known.groups.tolist()
