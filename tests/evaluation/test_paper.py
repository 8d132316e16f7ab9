"""Tables say what was measured and never invent; a second run takes finished cells; figures carry their numbers."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.image.fid import _compute_fid

from unclouded.cli import main
from unclouded.datasets import miniature
from unclouded.datasets.images import read_image
from unclouded.datasets.pairs import read_pairs
from unclouded.errors import UsageError
from unclouded.evaluation import cells, costs, paper, sheets
from unclouded.evaluation.evaluate import Score
from unclouded.evaluation.lpips import AlexFeatures
from unclouded.models import store
from unclouded.models.card import ModelCard
from unclouded.models.diffcr import DiffCR, DiffCRConfig
from unclouded.sampling import Sampling
from unclouded.scenes.bands import BandSet

pytestmark = pytest.mark.usefixtures("one_thread")


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["paper", *(str(a) for a in arguments)])
    out, err = capsys.readouterr()
    return int(exit_.value.code or 0), out, err


@pytest.fixture
def stems(tmp_path) -> Path:
    path = tmp_path / "stems.txt"
    path.write_text("1\n2\n")
    return path


def rows_of(path: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    return {
        (r["method"], r["data"], r["shrink"]): r for r in csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    }


def test_a_table_measures_what_is_here_and_says_what_is_not(capsys, tiny_models, tiny_rice, stems, tmp_path):
    arguments = ["table5", "--models", tiny_models, "--data", f"rice2={tiny_rice}", "--split", f"rice2={stems}"]
    code, out, err = run(capsys, *arguments, "--out", tmp_path / "o", "--json")
    assert code == 0, err
    rows = rows_of(tmp_path / "o" / "table5.csv")
    assert len(rows) == 18
    de = rows["DE-MSDA", "rice2", "1"]
    assert float(de["psnr ours"]) > 0
    assert (de["psnr paper"], de["ssim paper"], de["n"]) == ("33.60", "0.884", "2")
    prior = rows["MSDA-CR", "rice2", "1"]  # the prior inside the DE file
    assert prior["psnr ours"] != de["psnr ours"]
    for missing in (("CVAE", "rice2", "1"), ("DE-MSDA", "rice1", "1")):
        assert rows[missing]["psnr ours"] == cells.NOT_RUN
        assert rows[missing]["note"].startswith(cells.NOT_RUN)
    assert rows["DE-MSDA", "rice1", "1"]["psnr paper"] == "35.36"
    assert len(json.loads(out)["cells"]) == 18
    assert "| DE-MSDA | rice2 |" in (tmp_path / "o" / "table5.md").read_text()
    assert "DE-MSDA & rice2" in (tmp_path / "o" / "table5.tex").read_text()
    assert (tmp_path / "o" / "table5.png").read_bytes().startswith(b"\x89PNG")


def test_finished_cells_are_kept_until_something_changes(capsys, tiny_models, tiny_rice, stems, tmp_path, monkeypatch):
    arguments = ["table9", "--models", tiny_models, "--data", f"rice2={tiny_rice}", "--split", f"rice2={stems}"]
    arguments += ["--out", tmp_path, "--json"]
    first = run(capsys, *arguments)[1]
    measured = []
    monkeypatch.setattr(
        cells,
        "_measure",
        lambda *a: (
            measured.append(a) or cells.Cell(a[0], a[1], a[2], {"psnr": dict.fromkeys(("mean", "low", "high"), 1.0)})
        ),
    )
    assert run(capsys, *arguments)[1] == first
    assert not measured
    run(capsys, *arguments, "--steps", 3)
    assert {a[0] for a in measured} == {"pure diffusion", "reference prior alone", "DE"}
    found = {cell[0]: cell[3] for cell in (list(c.values()) for c in json.loads(first)["cells"]) if cell[1] == "rice2"}
    psnr = [found[name]["psnr"]["mean"] for name in ("pure diffusion", "reference prior alone", "DE")]
    assert len(set(psnr)) == 3


def test_the_resolution_gap_averages_the_test_images(capsys, tiny_models, tiny_rice, tmp_path):
    pairs = read_pairs(tiny_rice)
    table = paper.Table("table7", "t", (paper.Row("DE", (("de-msda-{data}", "model"),)),), ("rice2",), shrink=(1, 2))
    one, two = cells.run(table, cells.Setting(tiny_models, {"rice2": pairs[:2]}, tmp_path))
    assert (one.shrink, two.shrink) == (1, 2)
    assert one.values["psnr"] != two.values["psnr"]


def test_any_table_may_be_made_of_smaller_images(capsys, tiny_models, tiny_rice, stems, tmp_path):
    arguments = ["table8", "--models", tiny_models, "--data", f"rice2={tiny_rice}", "--split", f"rice2={stems}"]
    code, out, err = run(capsys, *arguments, "--shrink", 2, "--out", tmp_path, "--json")
    assert code == 0, err
    assert {cell["shrink"] for cell in json.loads(out)["cells"]} == {2}
    row = rows_of(tmp_path / "table8.csv")["coarse to fine", "rice2", "2"]
    assert float(row["psnr ours"]) > 0


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("diffcr-frames", ["cloudy input", "N = 1", "N = 2", "N = 3"]),
        ("diffcr-prediction", ["x0", "ε"]),
        ("diffcr-blocks", ["mean and max (TCF)", "mean", "max", "none"]),
    ],
)
def test_diffcrs_tables_take_its_variants_and_dates(capsys, tmp_path, name, titles):
    """Of three untrained models of the table, each is measured with its own dates; the others are not run."""
    models = tmp_path / "models"
    models.mkdir()
    data = miniature.generate("sen2-mtc-new", tmp_path / "data", pairs=3, size=24)
    for suffix, options in {"": {"frames": 3}, "-n2": {"frames": 2}, "-eps": {"prediction": "eps"}}.items():
        config = DiffCRConfig(bands=4, width=4, encoder_blocks=(1,), decoder_blocks=(1,), **options)
        bands = BandSet.reflectance("red", "green", "blue", "nir")
        card = ModelCard(
            name="x", method="diffcr", architecture=config.model_dump(mode="json"), bands=bands,
            sampling=Sampling(sampler="dpm", steps=2, spacing="linspace"),
        )  # fmt: skip
        torch.manual_seed(0)
        store.save(models / f"diffcr-sen2-mtc-new{suffix}.safetensors", DiffCR(config), card)
    out = tmp_path / "o"
    code, _, err = run(
        capsys, name, "--models", models, "--data", f"sen2-mtc-new={data}", "--split", "sen2-mtc-new=test", "--out", out
    )
    assert code == 0, err
    rows = rows_of(out / f"{name}.csv")
    assert [method for method, where, _ in rows if where == "sen2-mtc-new"] == titles
    measured = {method for (method, _, _), row in rows.items() if row["n"] == "1"}
    here = {"cloudy input", "N = 2", "N = 3", "x0", "ε", "mean and max (TCF)"}
    assert measured == here & set(titles)
    assert all(row["psnr ours"] == cells.NOT_RUN for (m, d, _), row in rows.items() if m not in here or "old" in d)


class Colours(torch.nn.Module):
    """A feature network that tells an image's mean colour."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().mean(dim=(2, 3))


def test_a_metric_without_its_network_says_where_to_get_it(capsys, tmp_path):
    """DiffCR's tables have PSNR, SSIM, FID and LPIPS; a later run with a network measures what was left open."""
    data = miniature.generate("sen2-mtc-old", tmp_path / "data", pairs=12, size=24)
    arguments = ["diffcr-frames", "--models", tmp_path, "--data", f"sen2-mtc-old={data}", "--out", tmp_path / "o"]
    stems = tmp_path / "stems.txt"
    stems.write_text("\n".join(pair.stem for pair in read_pairs(data, None, "sen2-mtc-old")))
    arguments += ["--split", f"sen2-mtc-old={stems}"]
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    row = rows_of(tmp_path / "o" / "diffcr-frames.csv")["cloudy input", "sen2-mtc-old", "1"]
    assert [row[f"{name} ours"] for name in ("fid", "lpips")] == [
        f"not run here (needs --{n})" for n in ("fid", "lpips")
    ]
    assert float(row["psnr ours"]) > 0
    [lacking] = [cell["lacking"] for cell in json.loads(out)["cells"] if cell["values"]]
    for where in ("weights-inception-2015-12-05-6726825d.pth", "Download https://download.pytorch.org/models/alexnet"):
        assert where in " ".join(dict(lacking).values())
        assert where in err
        assert where in (tmp_path / "o" / "diffcr-frames.md").read_text()
    program = torch.export.export(Colours(), (torch.zeros(1, 3, 24, 24, dtype=torch.uint8),))
    torch.export.save(program, tmp_path / "net.pt2")
    code, _, err = run(capsys, *arguments, "--fid", tmp_path / "net.pt2")
    assert code == 0, err
    row = rows_of(tmp_path / "o" / "diffcr-frames.csv")["cloudy input", "sen2-mtc-old", "1"]
    pairs = read_pairs(data, None, "sen2-mtc-old")
    cloudy, clear = (
        np.array([np.rint(read()).astype(float).mean(axis=(1, 2)) for read in reads])
        for reads in zip(*((pair.read_cloudy, pair.read_clear) for pair in pairs), strict=True)
    )
    expected = _compute_fid(
        *(torch.from_numpy(part) for x in (cloudy, clear) for part in (x.mean(0), np.cov(x, rowvar=False)))
    )
    assert float(row["fid ours"]) == pytest.approx(float(expected), abs=0.02)
    assert row["lpips ours"] == "not run here (needs --lpips)"
    assert run(capsys, *arguments, "--fid", tmp_path / "absent.pt2")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "rice2"], "not of the form NAME=VALUE"),
        (["--data", "cuhk-cr1=."], "This table has no data set 'cuhk-cr1'. It has: rice1, rice2"),
        (["--protocol", "mine"], "no protocol 'mine'"),
    ],
)
def test_wrong_use_of_a_table(capsys, tmp_path, arguments, said):
    code, _, err = run(capsys, "table5", "--models", tmp_path, "--out", tmp_path, *arguments)
    assert code == 2
    assert said in err
    absent = tmp_path / "absent"
    assert run(capsys, "table5", "--models", absent, "--out", tmp_path / "out")[0] == 1
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="no table 'table99'"):
        paper.get("table99")


def test_costs_stand_beside_the_published_ones(capsys, tmp_path):
    command = ["table10", "--size", 32, "--steps", 2, "--repeats", 1, "--device", "cpu"]
    command += ["--only", "CVAE", "--only", "DiffCR"]
    code, out, err = run(capsys, *command, "--out", tmp_path, "--json")
    assert code == 0, err
    cvae, diffcr = json.loads(out)["rows"]
    assert (cvae["steps"], diffcr["steps"]) == (None, 21)  # DiffCR as its paper samples it
    assert (tmp_path / "table10.png").read_bytes().startswith(b"\x89PNG")
    assert cvae["parameters"] / 1e6 == pytest.approx(15.56, abs=0.005)
    assert cvae["note"] == "the paper states no widths: ours are chosen for the paper's count"
    spagan = costs._measure("SpA-GAN", "spagan", 32, 1, 1, "cpu").note
    assert spagan == "0.02 M fewer: the published file also holds tensors that have no effect"
    assert "| CVAE | 15.56 | 15.56 |" in (tmp_path / "table10.md").read_text()
    assert "CVAE & 15.56 & 15.56" in (tmp_path / "table10.tex").read_text()
    with pytest.raises(UsageError, match="no method 'X' in Table X"):
        next(costs.measure_all(32, 1, 1, ["X"], "cpu"))


@pytest.mark.parametrize(("name", "lines"), [("fig4", 8), ("fig8", 3), ("fig9", 4), ("fig11", 11)])
@pytest.mark.parametrize("model", ["de-msda-rice2.safetensors", "base"])
def test_figures_write_a_picture_and_its_numbers(capsys, tiny_models, tiny_rice, tmp_path, model, name, lines):
    model = model if model == "base" else tiny_models / model
    arguments = ["--model", model, "--data", tiny_rice, "--limit", 2, "--steps", 4, "--out", tmp_path, "--json"]
    code, _, err = run(capsys, name, *arguments)
    assert code == 0, err
    rows = list(csv.reader((tmp_path / f"{name}.csv").read_text().splitlines()))
    assert len(rows) == 1 + lines
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    if name == "fig11":
        assert [row[0] for row in rows[1:]][:3] == ["0", "0.1", "0.2"]
        assert len({row[1] for row in rows[1:]}) > (5 if model != "base" else 1)  # the floor matters
    if name == "fig8":
        least = 0 if model == "base" else 0.3  # base's W may yield below the floor
        assert all(least <= float(row[3]) <= float(row[2]) <= float(row[4]) <= 1 for row in rows[1:])


def test_figures_are_sampled_as_in_the_paper(capsys, tiny_rice, tmp_path):
    """50 steps, though the card of `base` says 1."""
    code, _, err = run(capsys, "fig9", "--model", "base", "--data", tiny_rice, "--limit", 1, "--out", tmp_path)
    assert code == 0, err
    assert len((tmp_path / "fig9.csv").read_text().splitlines()) == 1 + 50


def test_figure_11_has_lpips_where_its_network_is_given(capsys, tiny_models, tmp_path):
    data = miniature.generate("rice2", tmp_path / "rice2", pairs=1, size=32)
    torch.manual_seed(0)
    backbone = {f"features.{k}": v for k, v in AlexFeatures().convs.state_dict().items()}
    torch.save(backbone, tmp_path / "alexnet.pth")
    arguments = ["--model", tiny_models / "de-msda-rice2.safetensors", "--data", data]
    code, _, err = run(capsys, "fig11", *arguments, "--lpips", tmp_path / "alexnet.pth", "--out", tmp_path)
    assert code == 0, err
    header, *rows = csv.reader((tmp_path / "fig11.csv").read_text().splitlines())
    assert header == ["eta", "psnr", "ssim", "gradient_ratio", "lpips"]
    assert len({row[4] for row in rows}) > 5
    code, _, err = run(capsys, "fig11", *arguments, "--lpips", tmp_path / "absent.pth", "--out", tmp_path)
    assert code == 2
    assert "torchvision's AlexNet weights" in err


def test_comparison_sheets_hold_an_image_a_method(capsys, tiny_models, tiny_rice, tmp_path):
    model = tiny_models / "de-msda-rice2.safetensors"
    arguments = ["fig6", "--model", model, "--prior", "--data", tiny_rice, "--out", tmp_path]
    code, _, err = run(capsys, *arguments, "--stem", "2", "--stem", "4")
    assert code == 0, err
    # cloudy, prior, model, clear; two rows with captions
    assert read_image(tmp_path / "fig6.png").shape == (3, 14 + 2 * (192 + 14), 4 * (192 + 2))
    assert run(capsys, *arguments, "--extremes", 1)[0] == 0
    assert {path.name for path in tmp_path.glob("fig6-*.png")} == {"fig6-best.png", "fig6-median.png", "fig6-worst.png"}
    code, _, err = run(capsys, *arguments, "--extremes", 9)
    assert code == 2
    assert "4 images cannot give 9" in err


def test_figure_7_is_figure_6_of_another_data_set_in_its_own_layout(capsys, tiny_models, tmp_path):
    data = miniature.generate("t-cloud", tmp_path / "data", pairs=4, size=24)
    model = tiny_models / "de-msda-rice2.safetensors"
    arguments = ["--model", model, "--data", data, "--dataset", "t-cloud", "--split", "test", "--out", tmp_path]
    assert run(capsys, "fig7", *arguments)[0] == 0
    assert read_image(tmp_path / "fig7.png").shape == (3, 14 + 192 + 14, 3 * (192 + 2))
    assert run(capsys, "fig8", *arguments)[0] == 0
    assert (tmp_path / "fig8.png").exists()


def test_extremes_are_ranked_by_the_metric():
    scores = [Score(str(n), 9, 9, 0, {"psnr": float(n)}) for n in (3, 1, 5, 2, 4)]
    assert sheets.extremes(scores, 1) == {"best": ["5"], "median": ["3"], "worst": ["1"]}
    assert sheets.extremes(scores, 2)["worst"] == ["2", "1"]
