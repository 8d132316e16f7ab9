"""The written lists are what their rule draws, are disjoint, and fit the data."""

import pytest

from unclouded.datasets import splits
from unclouded.datasets.pairs import read_pairs
from unclouded.errors import UsageError


@pytest.mark.parametrize(
    ("dataset", "val", "train", "starts"),
    [("rice1", 16, 64, splits.RICE1_SCENES), ("rice2", 60, 529, splits.RICE2_SCENES)],
)
def test_a_list_is_what_its_rule_draws(dataset, val, train, starts):
    held, rest = splits.split(dataset, "val"), splits.split(dataset, "train")
    assert (len(held), len(rest)) == (val, train)
    assert not set(held) & set(rest)
    assert splits.draw(dataset, sorted((*held, *rest), key=int), starts, val) == held


def test_a_draw_keeps_the_mix_of_scenes():
    stems = [str(n) for n in range(100)]
    drawn = splits.draw("x", stems, (0, 10, 50), 20)
    assert [sum(low <= int(stem) < high for stem in drawn) for low, high in ((0, 10), (10, 50), (50, 100))] == [
        2,
        8,
        10,
    ]
    assert drawn == splits.draw("x", stems[::-1], (0, 10, 50), 20) != splits.draw("y", stems, (0, 10, 50), 20)


def test_clean_training_pairs_are_those_without_cloudy_labels():
    cloudy = set(splits.split("rice2", "cloudy-labels"))
    assert "380" in cloudy
    assert set(splits.split("rice2", "train-clean")) == set(splits.split("rice2", "train")) - cloudy
    assert all(splits.reasons("rice2", "cloudy-labels").values())


def test_a_hash_names_a_set_of_images():
    assert splits.hash_stems(["b", "a"]) == splits.hash_stems(["a", "b"]) != splits.hash_stems(["ab"])
    assert splits.split_hash("rice2", "val") == splits.split_hash("rice2-val")
    # published with results: it must never change
    assert splits.split_hash("rice2-val") == "c6ad1e793ca663cb741491fdc2ab2671ce0fc21dc0a3a9aaa5f5f558e9d96603"
    assert splits.split_hash("rice1-val") == "e15d13d4387b86b08e790e7ffc0ed44bd7ba59594457716a55bf99e22b078b1f"


def test_an_unknown_list_names_the_known_ones():
    with pytest.raises(UsageError, match=r"no written split 'rice3-val'. The lists are rice1-train, .*rice2-val"):
        splits.split("rice3", "val")


@pytest.mark.parametrize("name", ["rice1", "rice2"])
def test_the_lists_cover_the_data(data_dir, name):
    stems = {pair.stem for pair in read_pairs(data_dir / name)}
    assert stems == {*splits.split(name, "val"), *splits.split(name, "train")}
    assert len(read_pairs(data_dir / name, f"{name}-val")) == len(splits.split(name, "val"))
