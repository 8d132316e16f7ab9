"""Training: losses fall, a resumed run equals an uninterrupted one, only what a stage trains changes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unclouded.errors import UncloudedError, UsageError
from unclouded.models import store
from unclouded.models.card import ModelCard
from unclouded.models.de import DE, DEConfig
from unclouded.models.unet import UNetConfig
from unclouded.sampling import Sampling
from unclouded.scenes.bands import BandSet
from unclouded.scenes.simulate import simulate_clouds
from unclouded.training import stages
from unclouded.training.data import Examples
from unclouded.training.loop import Run, learning_rate, read_log, train, workers_for
from unclouded.training.pools import ClearPool, Pool
from unclouded.training.recipes import Recipe, Source, Stage, recipe
from unclouded.training.sources import open_pool
from unclouded.training.stages import LOSSES, TRAINS, _fused, _Noised, _reference, l_coarse, l_joint_terms, l_prior

STAGES = ("prior", "coarse", "weights", "joint")


def _recipe(steps: int = 3, size: int = 32, lr: float = 1e-3, **values: object) -> Recipe:
    network = {"channels": 16, "res_blocks": 1, "multipliers": (1, 2), "attention": (), "heads": 1, "patch": 2}
    stages = {
        name: Stage(steps=steps, batch_size=4, size=size, shrink=2 if name == "coarse" else 1, lr=lr, ema=0.9)
        for name in STAGES
    }
    config = DEConfig(
        prior="light",
        prior_options={"channels": (16, 32), "blocks": (1, 1)},
        cnp=UNetConfig(6, 3, **network),
        wa=UNetConfig(9, 3, **network, scale_shift=False),
        prediction="x0",
    )
    fields = {
        "name": "tiny",
        "summary": "for tests",
        "model": config,
        "sources": (Source(),),
        "validation": (Source(),),
        "validation_limit": 2,
        "stages": stages,
        "sampling": Sampling(sampler="dpm", steps=2, spacing="trailing"),
    }
    return Recipe.model_validate(fields | values)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six 64×64 pairs: soft coloured fields under simulated cloud."""
    root = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    for folder in ("cloud", "label"):
        (root / folder).mkdir()
    for n in range(6):
        small = rng.uniform(0.1, 0.5, (3, 4, 4)).astype(np.float32)
        clear = np.repeat(np.repeat(small, 16, axis=1), 16, axis=2)
        cloudy = simulate_clouds(clear, rng, kind="thin").cloudy
        for folder, image in (("cloud", cloudy), ("label", clear)):
            Image.fromarray((np.moveaxis(image, 0, -1) * 255).astype(np.uint8)).save(root / folder / f"{n}.png")
    return root


def _run(recipe: Recipe, pairs: Path, out: Path, **options: object) -> None:
    for _ in train(recipe, Run(pairs, out, accelerator="cpu", **options)):  # type: ignore[arg-type]
        pass


def test_a_resumed_run_equals_an_uninterrupted_one(pairs: Path, tmp_path: Path) -> None:
    _run(_recipe(), pairs, tmp_path / "whole")
    for stop in (1, 3, 2, 3, 100):  # interrupted again and again
        for n, _ in enumerate(train(_recipe(), Run(pairs, tmp_path / "parts", accelerator="cpu")), start=1):
            if n == stop:
                break
    for stage in STAGES:
        whole, parts = (torch.load(tmp_path / run / f"{stage}.ckpt") for run in ("whole", "parts"))
        for key in ("model", "ema", "optimizer"):
            torch.testing.assert_close(parts[key], whole[key], rtol=0, atol=0)
    whole, parts = (store.load(tmp_path / run / "tiny.safetensors")[0] for run in ("whole", "parts"))
    torch.testing.assert_close(parts.state_dict(), whole.state_dict(), rtol=0, atol=0)
    steps = [(entry["stage"], entry["step"]) for entry in read_log(tmp_path / "parts")]
    assert steps == sorted(set(steps), key=lambda s: (STAGES.index(s[0]), s[1]))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_changes_what_it_trains_and_nothing_else(pairs: Path, tmp_path: Path, stage: str) -> None:
    model, given = DE(_recipe().model), tmp_path / "given.safetensors"
    before = model.state_dict()
    card = ModelCard(name="given", method="de", architecture=model.config.model_dump(), bands=BandSet.display(*"rgb"))
    store.save(given, model, card)
    _run(_recipe(steps=3, init=str(given)), pairs, tmp_path, stages=(stage,))
    after = store.load(tmp_path / "tiny.safetensors")[0].state_dict()
    changed = {
        name.split(".")[0] for name, tensor in before.items() if not torch.equal(after[name], tensor.half().float())
    }
    assert changed == set(TRAINS[stage])  # type: ignore[index]


def test_a_stage_is_not_trained_beside_networks_that_nothing_trained(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="joint builds on prior and coarse and weights, not finished"):
        _run(_recipe(), pairs, tmp_path, stages=("joint",))
    _run(_recipe(), pairs, tmp_path, stages=("prior", "coarse"), max_minutes=1e-9)
    for chosen in (("weights",), ("coarse", "weights")):
        with pytest.raises(UsageError, match="weights builds on prior"):
            _run(_recipe(), pairs, tmp_path, stages=chosen)  # type: ignore[arg-type]
    refining = _recipe(model=_recipe().model.model_copy(update={"prediction": "refinement"}))  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="coarse builds on prior"):
        _run(refining, pairs, tmp_path / "refining", stages=("coarse",))
    _run(_recipe(), pairs, tmp_path, stages=("prior", "coarse", "weights"))
    _run(_recipe(), pairs, tmp_path, stages=("joint",))
    assert torch.load(tmp_path / "joint.ckpt")["done"]


def test_max_minutes_stops_cleanly_and_the_same_command_goes_on(pairs: Path, tmp_path: Path) -> None:
    _run(_recipe(steps=4), pairs, tmp_path, max_minutes=1e-9)
    assert not torch.load(tmp_path / "prior.ckpt")["done"]
    _run(_recipe(steps=4), pairs, tmp_path)
    assert all(torch.load(tmp_path / f"{stage}.ckpt")["done"] for stage in STAGES)


def test_a_stage_draws_by_its_own_shares(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[float]] = []

    def recording(pools: Sequence[Pool], shares: Sequence[float], stage: Stage, key: tuple[int, ...]) -> Examples:
        examples = Examples(pools, shares, stage, key)
        drawn.append(examples.shares.tolist())
        return examples

    monkeypatch.setattr("unclouded.training.loop.Examples", recording)
    two = _recipe(steps=1, sources=(Source(weight=1), Source(weight=3)))
    stages = two.stages | {"coarse": two.stages["coarse"].model_copy(update={"shares": (1.0, 0.0)})}
    _run(two.model_copy(update={"stages": stages}), pairs, tmp_path, stages=("prior", "coarse"))
    assert drawn == [[0.25, 0.75], [1.0, 0.0]]


def test_a_checkpoint_of_other_settings_is_refused(pairs: Path, tmp_path: Path) -> None:
    _run(_recipe(), pairs, tmp_path, stages=("prior",))
    with pytest.raises(UncloudedError, match="another value of stage"):
        _run(_recipe(lr=5e-4), pairs, tmp_path, stages=("prior",))
    (tmp_path / "prior.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(UncloudedError, match="cannot be read"):
        _run(_recipe(), pairs, tmp_path, stages=("prior",))


def test_the_card_says_what_the_model_was_made_from(pairs: Path, tmp_path: Path) -> None:
    _run(_recipe(steps=2), pairs, tmp_path)
    card = store.read_card(tmp_path / "tiny.safetensors")
    assert card.training is not None
    assert card.training.steps == dict.fromkeys(STAGES, 2)
    assert card.training.settings["stages"]["joint"]["lr"] == 1e-3
    assert card.sampling == _recipe().sampling
    assert card.training.init is None
    for stage in STAGES:
        assert (tmp_path / "samples" / f"{stage}-0000002.png").stat().st_size > 0


def test_the_card_remembers_what_the_model_started_from(pairs: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    _run(_recipe(steps=2), pairs, first)
    started = _recipe(steps=1).model_copy(update={"init": str(first / "tiny.safetensors")})
    _run(started, pairs, second, stages=("joint",))
    card = store.read_card(second / "tiny.safetensors")
    assert card.training is not None
    assert card.training.steps == {"joint": 1}
    assert card.training.init == store.read_card(first / "tiny.safetensors").training


def test_the_log_holds_the_validation_scores(pairs: Path, tmp_path: Path) -> None:
    _run(_recipe(steps=2), pairs, tmp_path, stages=("prior",))
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert set(last["validation"]) == {"./psnr", "./ssim"}
    assert last["images_per_second"] > 0


def test_the_learning_rate_rises_stays_and_falls() -> None:
    stage = Stage(steps=100, batch_size=1, lr=1.0, warmup=9, decay=0.5)
    rates = [learning_rate(stage, s) for s in range(100)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert rates[10:50] == [1.0] * 40
    assert rates[75] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.02)


def test_recipes_are_values_and_wrong_settings_are_named() -> None:
    changed = recipe("de-msda-rice2", ["stages.joint.lr=2e-5", "model.cnp.channels=32", "validation_limit=3"])
    assert (changed.stages["joint"].lr, changed.model.cnp.channels, changed.validation_limit) == (2e-5, 32, 3)
    with pytest.raises(UsageError, match=r"no recipe named 'x'.*base"):
        recipe("x")
    with pytest.raises(UsageError, match=r"no value 'stages.joint.rate'.*steps"):
        recipe("base", ["stages.joint.rate=1"])
    with pytest.raises(UsageError, match=r"stages.joint.steps cannot be 'many'"):
        recipe("base", ["stages.joint.steps=many"])
    with pytest.raises(UsageError, match="key=value"):
        recipe("base", ["seed"])


def test_the_papers_recipe_is_the_papers() -> None:
    r = recipe("de-msda-rice2")
    assert [s.lr for n, s in r.stages.items() if n != "prior"] == [1e-5] * 3
    assert (r.stages["coarse"].size, r.stages["coarse"].batch_size, r.stages["coarse"].shrink) == (64, 64, 4)
    assert (r.stages["weights"].size, r.stages["weights"].batch_size, r.stages["weights"].ema) == (256, 16, 0.9999)
    assert r.sampling == Sampling(sampler="ddim", steps=50, spacing="leading", weight_floor=0.3)


def test_the_last_steps_see_larger_crops(pairs: Path) -> None:
    stage = Stage(steps=8, batch_size=2, size=16, last_size=32, last_share=0.25)
    examples = Examples([open_pool(Source(), pairs, BandSet.display("red", "green", "blue"))], [1.0], stage, (0,))
    assert [examples[n][0].shape[-1] for n in (0, 11, 12, 15)] == [16, 16, 32, 32]


def test_some_simulated_examples_have_no_cloud() -> None:
    image = np.random.default_rng(0).uniform(0.1, 0.5, (3, 64, 64)).astype(np.float32)
    for share, expected in ((0.0, 0), (0.5, 20)):
        pool = ClearPool([image], ("red", "green", "blue"), cloudless=share)
        rng = np.random.default_rng(1)
        same = sum(np.array_equal(*pool.draw(rng, 32)) for _ in range(40))
        assert abs(same - expected) <= 8


@pytest.mark.parametrize("devices", [3, 10**12])
def test_a_batch_that_the_devices_cannot_share_is_refused_before_they_start(
    devices: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("unclouded.training.loop.Fabric")
    with pytest.raises(UsageError, match=rf"A batch of \d+ cannot be shared by {devices} devices"):
        next(train(_recipe(), Run(tmp_path, tmp_path / "out", accelerator="cpu", devices=devices)))


def test_from_the_prior_means_that_x_t_knows_nothing_of_the_answer() -> None:
    """With the noise of the last t nearly gone from view: two answers, one cloudy image, one x_t."""
    torch.manual_seed(0)
    model = DE(_recipe().model).eval()  # type: ignore[arg-type]
    y, x_E = torch.rand(2, 2, 3, 32, 32)
    clear = torch.rand(2, 2, 3, 32, 32)
    for share, same in ((1.0, True), (0.0, False)):
        how = Stage(steps=1, batch_size=1, from_prior=share)
        seen = [_Noised(model, y, x0, torch.Generator().manual_seed(0), x_E, how).x_t for x0 in clear]
        assert torch.equal(*seen) is same
    with pytest.raises(UsageError, match=r"does not hold together.*from_prior is for"):
        recipe("de-msda-rice2", ["stages.joint.from_prior=0.5"])


def test_a_power_above_one_draws_more_small_steps() -> None:
    model = DE(_recipe().model).eval()  # type: ignore[arg-type]
    y = x0 = torch.zeros(2000, 3, 4, 4)
    for power, share in ((1.0, 0.25), (2.0, 0.5)):
        how = Stage(steps=1, batch_size=1, t_power=power)
        t = _Noised(model, y, x0, torch.Generator().manual_seed(0), None, how).t
        assert (int(t.min()) >= 0, int(t.max()) < model.schedule.T) == (True, True)
        assert abs(float((t < 250).float().mean()) - share) < 0.04


def test_a_stage_has_further_losses_where_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = DE(_recipe().model).train()  # type: ignore[arg-type]
    y, x0 = torch.rand(2, 2, 3, 32, 32)
    named = Stage(steps=1, batch_size=2, loss_weights={"sharpness": 0.3, "detail": 0.5})
    assert l_joint_terms(model, y, x0, torch.Generator().manual_seed(0), named).keys() == {
        "ddpm",
        "wa",
        "sharpness",
        "detail",
    }
    told: list[torch.Tensor] = []
    monkeypatch.setattr(stages, "detail_loss", lambda fused, x_E: told.append(x_E) or fused.mean())
    l_joint_terms(model, y, x0, torch.Generator().manual_seed(0), named)
    assert torch.equal(told[0], _reference(model, y)), "the fused image beside the prior's, not the other way round"
    named = Stage(steps=1, batch_size=2, loss_weights={"ssim": 0.1})
    assert l_prior(model, y, x0, torch.Generator(), named).keys() == {"log_mse", "gradient", "ssim"}
    assert l_prior(model, y, x0, torch.Generator()).keys() == {"log_mse", "gradient"}
    named = Stage(steps=1, batch_size=2, loss_weights={"ssim": 0.1, "gradient": 1})
    assert l_coarse(model, y, x0, torch.Generator(), named).keys() == {"ddpm", "gradient", "ssim"}
    assert l_coarse(model, y, x0, torch.Generator()).keys() == {"ddpm"}
    for stage, term in (("coarse", "sharpness"), ("prior", "spread"), ("joint", "ssim")):
        with pytest.raises(UsageError, match=rf"{term} is for the stage"):
            recipe("base", [f"stages.{stage}.loss_weights={{{term}: 1}}"])


def test_a_sample_pair_is_of_one_image_and_t_with_other_noise() -> None:
    model = DE(_recipe().model).train()  # type: ignore[arg-type]
    y, x0 = torch.rand(2, 2, 3, 32, 32)
    how = Stage(steps=1, batch_size=2, loss_weights={"spread": 1.0})
    losses = l_joint_terms(model, y, x0, torch.Generator().manual_seed(0), how)
    assert losses.keys() == {"ddpm", "wa", "spread"}
    plain = l_joint_terms(model, y, x0, torch.Generator().manual_seed(0))
    assert torch.equal(losses["ddpm"], plain["ddpm"])
    batch = _Noised(model, y, x0, torch.Generator().manual_seed(0))
    x_t, t = batch.x_t, batch.t
    batch.renoise(torch.Generator().manual_seed(1))
    assert torch.equal(batch.t, t)
    assert not torch.equal(batch.x_t, x_t)


def test_the_joint_stage_fuses_as_sampling_does() -> None:
    x0_eps, x_E = torch.rand(2, 1, 3, 4, 4)
    for w, expected in ((0.0, x0_eps), (1.0, x_E), (1.5, x_E), (0.25, 0.75 * x0_eps + 0.25 * x_E)):
        torch.testing.assert_close(_fused(torch.full_like(x_E, w), x0_eps, x_E), expected)


def test_a_loss_that_a_stage_does_not_have_is_refused(pairs: Path, tmp_path: Path) -> None:
    mistyped = Stage(steps=1, batch_size=2, size=32, loss_weights={"gradeint": 2.0})
    with pytest.raises(UsageError, match=r"prior has no loss 'gradeint'. It has: log_mse, gradient\."):
        _run(_recipe(stages={"prior": mistyped}), pairs, tmp_path)


def _loss(model: DE, stage: str, batch: list[torch.Tensor]) -> float:
    """The stage's loss on a fixed batch with fixed steps and noise."""
    with torch.no_grad():
        terms = LOSSES[stage](model, *batch, torch.Generator().manual_seed(0))  # type: ignore[index]
    return float(sum(terms.values()))


def test_the_stages_lower_their_losses_on_real_pairs(data_dir: Path, tmp_path: Path) -> None:
    source = Source(path="rice1", split="rice1-train")
    real = _recipe(steps=40, lr=2e-3, sources=(source,), validation=(source,))
    longer = real.stages["joint"].model_copy(update={"steps": 120})  # it begins where the others have gained most
    real = real.model_copy(update={"stages": real.stages | {"joint": longer}})
    _run(real, data_dir, tmp_path)
    torch.manual_seed(real.seed)
    model = DE(real.model).train()
    pool = open_pool(source, data_dir, BandSet.display(*real.bands))
    for stage in STAGES:
        examples = Examples([pool], [1.0], real.stages[stage], (99,))  # type: ignore[index]
        batch = [torch.stack(images) for images in zip(*(examples[n] for n in range(32)), strict=True)]
        before = _loss(model, stage, batch)
        for name, part in torch.load(tmp_path / f"{stage}.ckpt")["ema"].items():
            getattr(model, name).load_state_dict(part)
        assert _loss(model, stage, batch) < 0.97 * before, stage


def test_half_precision_stays_inside_the_networks(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images, targets and losses are float32; only what the networks compute is bf16."""
    seen = {}

    def spy(model: DE, y: torch.Tensor, x0: torch.Tensor, generator: torch.Generator, **how: Any) -> Any:
        seen.update(y=y.dtype, x0=x0.dtype, conv=torch.nn.functional.conv2d(y, y.new_zeros(1, 3, 1, 1)).dtype)
        losses = l_coarse(model, y, x0, generator)
        seen["loss"] = losses["ddpm"].dtype
        return losses

    monkeypatch.setitem(LOSSES, "coarse", spy)
    _run(_recipe(steps=1), pairs, tmp_path, stages=("coarse",), precision="bf16")
    assert seen == {"y": torch.float32, "x0": torch.float32, "conv": torch.bfloat16, "loss": torch.float32}


def test_a_gpu_gets_processes_that_prepare_data() -> None:
    assert workers_for("cpu", 1, cores=16) == 0
    assert [workers_for("cuda", 1, cores) for cores in (1, 2, 4, 16)] == [1, 1, 3, 8]
    assert [workers_for("cuda", devices, 16) for devices in (2, 4, 8)] == [7, 3, 1]
