"""A card as a page of Markdown."""

from pathlib import Path

import pytest

from unclouded.models import store
from unclouded.models.card import Measurement, ModelCard, SpreadCalibration, TrainingRecord
from unclouded.models.page import page
from unclouded.scenes.bands import BandSet

DOCS = Path(__file__).resolve().parents[2] / "docs" / "models"
PLAIN = ModelCard(name="plain", method="de", architecture={}, bands=BandSet.display("red", "green", "blue"))


@pytest.mark.parametrize("name", store.shipped())
def test_the_docs_show_what_ships(name: str) -> None:
    assert (DOCS / f"{name}.md").read_text(encoding="utf-8") == page(store.read_card(store.resolve(name))) + "\n"


def test_what_a_card_does_not_know_is_left_out() -> None:
    lines = page(PLAIN).splitlines()
    assert lines[0] == "# plain"
    assert lines[2] == "Licence not stated."
    assert "|" not in page(PLAIN)
    assert "##" not in page(PLAIN)


def test_a_training_of_which_little_is_known() -> None:
    training = TrainingRecord(recipe="own", steps={"prior": 7}, init=TrainingRecord(recipe="first", note="pruned"))
    shown = page(PLAIN.model_copy(update={"training": training}))
    assert "- `unclouded train own`: prior 7\n- pruned\n\nSampling default" in shown


def test_a_measurement_without_all_its_values_has_dashes() -> None:
    measured = Measurement(
        data="rice1", split="test", split_hash="", n=3, protocol="paper", values={"psnr": 30.123}, command="do it"
    )
    shown = page(PLAIN.model_copy(update={"metrics": (measured,)}))
    assert "| rice1 | test (3) | paper | model | 30.12 | – | – | – | – | – |" in shown
    assert "do it" in shown


def test_a_calibration_without_its_details_is_one_sentence() -> None:
    made = SpreadCalibration(
        data="rice2", split="val", split_hash="", images=9, samples=4, level=0.68, coverage_raw=(0.1,),
        coverage_held_out=(0.66,), rank_correlation=None, command="calibrate it",
    )  # fmt: skip
    shown = page(PLAIN.model_copy(update={"calibration": made}))
    assert "± covers 66 % of the errors in the bands (nominally 68 %; 10 % without factors)." in shown
    assert "rank correlation" not in shown
