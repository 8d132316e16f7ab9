"""Recipes: every method on every data set is a checked value, and old checkpoints stay good."""

import pytest
from pydantic import ValidationError

from unclouded.datasets import catalog
from unclouded.errors import UncloudedError, UsageError
from unclouded.evaluation import paper
from unclouded.models import store
from unclouded.models.de import paper_config
from unclouded.models.end_to_end import EndToEndConfig
from unclouded.training import papers
from unclouded.training.export import drawn
from unclouded.training.recipes import RECIPES, recipe
from unclouded.training.values import Recipe, Source, Stage


def test_every_recipe_goes_by_its_own_name_and_survives_being_written_down() -> None:
    for name in RECIPES:
        found = recipe(name)
        assert found.name == name
        assert Recipe.model_validate_json(found.model_dump_json()) == found


def test_every_file_that_the_papers_tables_look_for_has_a_recipe() -> None:
    for table in paper.TABLES.values():
        for row in table.rows:
            for data in table.data:
                stems = [stem.format(data=data) for stem, what in row.candidates if what != "input"]
                assert not stems or set(stems) <= RECIPES.keys(), stems


@pytest.mark.parametrize("dataset", papers.DATA)
def test_bands_and_units_are_the_data_sets(dataset: str) -> None:
    found, entry = recipe(f"de-msda-{dataset}"), catalog.get(dataset)
    assert found.bands == entry.bands
    assert found.model == paper_config(len(entry.bands), "msda")
    assert found.units == ("reflectance" if entry.dtype == "uint16" else "display")


@pytest.mark.parametrize(
    ("name", "method", "stages"),
    [
        ("cvae-rice1", "prior", ["prior"]),
        ("diffusion-rice2", "de", ["coarse"]),
        ("de-spagan-cuhk-cr1", "de", ["prior", "coarse", "weights", "joint"]),
        ("de-msda-rice2-weights", "de", ["prior", "coarse", "weights"]),
        ("diffcr-sen2-mtc-new", "diffcr", ["diffcr"]),
    ],
)
def test_each_method_has_its_stages(name: str, method: str, stages: list[str]) -> None:
    found = recipe(name)
    assert (found.method, list(found.stages)) == (method, stages)


def test_variants_are_the_tables() -> None:
    fine, two = recipe("de-msda-rice2-fine"), recipe("de-msda-cuhk-cr1-2m")
    assert (fine.stages["coarse"].size, fine.stages["coarse"].shrink) == (256, 1)
    assert {name: (s.size, s.shrink) for name, s in two.stages.items()} == {
        "prior": (128, 4), "coarse": (32, 16), "weights": (128, 4), "joint": (128, 4),
    }  # fmt: skip
    dates = [recipe(f"diffcr-sen2-mtc-new{suffix}").frames for suffix in ("", "-n1", "-n2", "-eps")]
    assert dates == [3, 1, 2, 3]
    assert recipe("diffcr-rice2-eps").model.prediction == "eps"
    assert recipe("diffcr-sen2-mtc-new-mean").model.pooling == "mean"


def test_more_dates_and_sentinel_1_widen_only_what_sees_them() -> None:
    dates, radar = recipe("de-msda-sen2-mtc-new-n3"), recipe("de-msda-sen12ms-cr-sar")
    plain = recipe("de-msda-sen12ms-cr").model
    assert (dates.frames, dates.sar, dates.model.cnp) == (3, 0, recipe("de-msda-sen2-mtc-new").model.cnp)
    assert (radar.frames, radar.sar) == (1, 2)
    widths = [(m.cnp.in_channels, m.cnp.out_channels, m.wa.in_channels) for m in (plain, radar.model)]
    assert widths == [(26, 13, 39), (28, 13, 41)]
    assert recipe("diffcr-sen12ms-cr-ts-sar").model.model_dump(include={"bands", "frames", "sar"}) == {
        "bands": 13, "frames": 3, "sar": 2,
    }  # fmt: skip


@pytest.mark.parametrize(("name", "sar", "same"), [
    ("de-msda-sen12ms-cr", 2, "de-msda-sen12ms-cr-sar"),
    ("de-msda-sen12ms-cr-sar", 0, "de-msda-sen12ms-cr"),
    ("de-msda-sen12ms-cr", 0, "de-msda-sen12ms-cr"),
    ("diffcr-sen12ms-cr", 2, "diffcr-sen12ms-cr-sar"),
])  # fmt: skip
def test_setting_sentinel_1_widens_what_sees_it(name: str, sar: int, same: str) -> None:
    assert recipe(name, [f"model.sar={sar}"]).model == recipe(same).model


@pytest.mark.parametrize("field", ["sources", "validation", "stages"])
def test_a_recipe_of_nothing_is_refused(field: str) -> None:
    empty = "{}" if field == "stages" else "[]"
    with pytest.raises(UsageError, match=f"{field} cannot be .*at least 1 item"):
        recipe("own", [f"{field}={empty}"])


def test_widths_that_are_set_too_stay() -> None:
    with pytest.raises(UsageError, match="the CNP must take 28 channels"):
        recipe("de-msda-sen12ms-cr", ["model.sar=2", "model.cnp.in_channels=26"])
    with pytest.raises(UsageError, match=r"model\.sar cannot be 3: Input should be 0 or 2"):
        recipe("own", ["model.sar=3"])
    for broken in ("model=3", "model.cnp=3", "model.cnp={a: 1}"):
        with pytest.raises(UsageError, match=r"cannot be|does not hold"):
            recipe("own", ["model.sar=2", broken])


def test_a_stage_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(ValidationError, match="no stage joint; it has prior"):
        Recipe(
            name="x", summary="", model=EndToEndConfig(prior="msda"), sources=(Source(),), validation=(Source(),),
            stages={"joint": Stage(steps=1, batch_size=1)},
        )  # fmt: skip


def test_messages_name_the_key_without_the_kind_of_model() -> None:
    with pytest.raises(UsageError, match=r"value model\.cnp\.channels cannot be 'x'"):
        recipe("de-msda-rice2", ["model.cnp.channels=x"])
    for value in ("5", "null", "[1]"):
        with pytest.raises(UsageError, match=r"value model\.cnp cannot be"):
            recipe("base", [f"model.cnp={value}"])
        with pytest.raises(UsageError, match=r"value model cannot be"):
            recipe("base", [f"model={value}"])
    with pytest.raises(UsageError, match=r"value model\.cnp\.widths cannot be 'x'"):
        recipe("base", ["model.cnp.widths=x"])
    with pytest.raises(UsageError, match=r"value stages\.prior\.lr cannot be 'x'"):
        recipe("msda-rice2", ["stages.prior.lr=x"])
    with pytest.raises(UsageError, match=r"the CNP must take 8 channels"):
        recipe("de-msda-rice2", ["model.bands=4"])


@pytest.mark.parametrize("setting", ["seed=[1", "seed={", "seed=2024-13-45", "seed=!!python/object:os.system x"])
def test_a_value_that_is_no_yaml_is_refused(setting: str) -> None:
    with pytest.raises(UsageError, match=r"--set .* gives no value\. Write a number"):
        recipe("base", [setting])


def test_items_of_a_list_can_be_set() -> None:
    changed = recipe("base", ["sources.7.rows.1=0.5", "model.prior_options.channels.3=96"])
    assert changed.sources[7].rows == (0.0, 0.5)
    assert changed.model.prior_options["channels"] == [24, 48, 96, 96]  # type: ignore[union-attr]


@pytest.mark.parametrize("channels", ["[]", "[1]", "[-1,48,96,192]", "[24,48,96,1000000000]"])
def test_sizes_that_make_no_network_are_refused(channels: str) -> None:
    with pytest.raises(UncloudedError, match=r"of these sizes cannot be built .*Mend the recipe's model"):
        recipe("base", [f"model.prior_options.channels={channels}"]).build()


def test_a_stage_may_draw_from_the_sources_by_shares_of_its_own() -> None:
    others = [0] * (len(recipe("base").sources) - 2)
    shares = (0.2, 0.8, *others)
    assert recipe("base", [f"stages.coarse.shares={list(shares)}"]).stages["coarse"].shares == shares
    assert recipe("base").stages["coarse"].shares is None
    for wrong in ("[1, 2]", [0, 0, *others]):
        with pytest.raises(UsageError, match=f"must name a share for each of the {len(shares)} sources"):
            recipe("base", [f"stages.prior.shares={wrong}"])
    with pytest.raises(UsageError, match=r"stages\.prior\.shares\.1"):
        recipe("base", [f"stages.prior.shares={[1, -1, *others]}"])


@pytest.mark.parametrize("name", ["base", "rgbn"])
def test_what_ships_samples_as_its_recipe_says(name: str) -> None:
    card = store.read_card(store.resolve(name))
    assert card.sampling == recipe(name).sampling
    assert card.limits == recipe(name).limits
    assert card.bands == recipe(name).band_set


def test_only_sources_that_a_stage_drew_from_are_named_in_the_card() -> None:
    three = [{"path": name} for name in ("a", "b", "c")]
    some = recipe("own", [f"sources={three}", "stages.prior.shares=[0.5,0.5,0]", "stages.joint.shares=[0,0,1]"])
    assert [source.path for source in drawn(some, ["prior"])] == ["a", "b"]
    assert [source.path for source in drawn(some, ["joint"])] == ["c"]
    assert [source.path for source in drawn(some, ["prior", "joint"])] == ["a", "b", "c"]
    assert [source.path for source in drawn(some, ["weights"])] == ["a", "b", "c"]  # by their weights
