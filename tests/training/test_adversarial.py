"""The one adversarial step: whose gradient goes where, equality with the two-optimizer form, and that GANs learn."""

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from unclouded.errors import UsageError
from unclouded.models import store
from unclouded.models.de import DEConfig
from unclouded.models.discriminators import PatchGAN
from unclouded.models.registry import build_prior
from unclouded.models.unet import UNetConfig
from unclouded.training.adversarial import METHODS, Adversarial, AdversarialStep, adversarial_step, l_judged
from unclouded.training.loop import Run, train
from unclouded.training.recipes import Recipe, Source, Stage

SMALL = {
    "amgan": {"features": 8, "blocks": 2, "passes": 2},
    "pix2pix": {"features": 4, "levels": 3},
    "spagan": {"features": 8},
    "msda": {"features": 8},
}


def veiled(n=2, size=24):
    x0 = F.interpolate(torch.rand(n, 3, 4, 4), size=size, mode="bilinear") * 0.6
    return 0.5 * x0 + 0.45, x0


def small_step(name, **options):
    return AdversarialStep(build_prior(name, bands=3, **SMALL[name]), METHODS[name], PatchGAN(3, 4, 2), **options)


def gradients(module):
    return {name: None if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}


@pytest.mark.parametrize("loss", ["log", "least-squares"])
def test_gradients_do_not_mix(loss):
    """The sum's gradient is, part by part, that of the two classical updates."""
    step = AdversarialStep(build_prior("spagan", bands=3, features=8), Adversarial(loss), PatchGAN(3, 4, 2))
    y, x0 = veiled()
    sum(step(y, x0).values()).backward()
    together = gradients(step)
    step.zero_grad()
    G, D = step.generator, step.discriminator
    x, masks = G.restore(y)
    content = sum(G.content_losses(y, x0, x, masks).values())
    (content + l_judged(D(y, x), True, loss)).backward()  # the generator's update; its gradient in D is thrown away
    classical = gradients(G)
    step.zero_grad()
    ((l_judged(D(y, x0), True, loss) + l_judged(D(y, x.detach()), False, loss)) / 2).backward()
    for name, gradient in classical.items():
        torch.testing.assert_close(together["generator." + name], gradient, msg=name)
    for name, gradient in gradients(D).items():
        torch.testing.assert_close(together["discriminator." + name], gradient, msg=name)


def test_the_generators_term_moves_no_running_statistic():
    step = small_step("spagan")
    before = {name: b.clone() for name, b in step.discriminator.named_buffers()}
    step._constant(*veiled())
    assert all(torch.equal(b, before[name]) for name, b in step.discriminator.named_buffers())


def test_verdicts():
    logits = torch.tensor([[-2.0, 0.5]])
    torch.testing.assert_close(l_judged(logits, True, "log"), -torch.sigmoid(logits).log().mean())
    torch.testing.assert_close(l_judged(logits, False, "log"), -(1 - torch.sigmoid(logits)).log().mean())
    torch.testing.assert_close(l_judged(logits, False, "least-squares"), logits.square().mean())


def test_perceptual_term_needs_features_and_a_method_that_has_it():
    features = nn.Conv2d(3, 4, 3).requires_grad_(False)
    y, x0 = veiled()
    assert "perceptual" in small_step("msda", perceptual=features)(y, x0)
    assert "perceptual" not in small_step("msda")(y, x0)
    assert "perceptual" not in small_step("spagan", perceptual=features)(y, x0)
    assert not any("perceptual" in name for name in small_step("msda", perceptual=features).state_dict())


@pytest.mark.parametrize("name", ["pix2pix", "amgan", "spagan", pytest.param("msda", marks=pytest.mark.slow)])
def test_every_gan_improves_on_the_cloudy_image(name):
    step = small_step(name)
    y, x0 = veiled(4)
    optimizer = torch.optim.Adam(step.parameters(), 3e-3, betas=(0.5, 0.999))
    for _ in range(45):
        optimizer.zero_grad()
        sum(step(y, x0).values()).backward()
        optimizer.step()
    with torch.no_grad():
        assert F.l1_loss(step.generator.eval()(y), x0) < 0.7 * F.l1_loss(y, x0)


def test_methods_by_name():
    step = adversarial_step("amgan", build_prior("amgan", bands=5, features=8), bands=5)
    assert step.discriminator(torch.rand(1, 5, 24, 24), torch.rand(1, 5, 24, 24)).shape == (1, 1, 1, 1)
    with pytest.raises(UsageError, match="'light' is not trained adversarially"):
        adversarial_step("light", build_prior("light", bands=3), bands=3)


@pytest.fixture
def pairs(tmp_path):
    """Four pairs of 32×32 pictures."""
    y, x0 = veiled(4, 32)
    for folder, images in (("cloud", y), ("label", x0)):
        (tmp_path / folder).mkdir()
        for n, image in enumerate(images):
            Image.fromarray((image * 255).byte().permute(1, 2, 0).numpy()).save(tmp_path / folder / f"{n}.png")
    return tmp_path


@pytest.mark.parametrize("prior", ["pix2pix", "cvae"])
def test_the_training_loop_resumes_what_draws_inside_the_prior(pairs, prior):
    """Interrupted after each step, a GAN with dropout (and a CVAE) ends as if it had run through; the model file holds
    no discriminator."""
    options = SMALL.get(prior) or {"channels": 16, "depth": 1, "heads": 2, "latent": 4}
    network = {"channels": 16, "res_blocks": 1, "multipliers": (1,), "attention": (), "heads": 1, "patch": 2}
    model = DEConfig(
        prior=prior, prior_options=options, cnp=UNetConfig(6, 3, **network), wa=UNetConfig(9, 3, **network)
    )
    recipe = Recipe(
        name="gan", summary="for tests", model=model, sources=(Source(),), validation=(Source(),), validation_limit=1,
        stages={"prior": Stage(steps=3, batch_size=2, size=32, lr=1e-3, ema=0.9)},
    )  # fmt: skip
    steps = list(train(recipe, Run(pairs, pairs / "whole", accelerator="cpu")))
    assert ("discriminator" in steps[0].losses) == (prior in METHODS)
    for _ in range(4):
        next(train(recipe, Run(pairs, pairs / "parts", accelerator="cpu")), None)
    whole, parts = (torch.load(pairs / run / "prior.ckpt") for run in ("whole", "parts"))
    for key in ("model", "ema", "optimizer"):
        torch.testing.assert_close(parts[key], whole[key], rtol=0, atol=0)
    assert set(whole["model"]) == ({"prior", "discriminator"} if prior in METHODS else {"prior"})
    trained, _ = store.load(pairs / "whole" / "gan.safetensors")
    assert not any("discriminator" in name for name in trained.state_dict())
