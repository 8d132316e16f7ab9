"""The U-Net, the fusion, DDIM and the losses against outputs of the authors' code (COMPAT.md, golden/de_rgb.*)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from unclouded.diffusion.denoisers import Denoiser, Weighing, eps_denoiser, fused
from unclouded.diffusion.losses import l_ddpm, l_joint, l_wa
from unclouded.diffusion.samplers import ddim
from unclouded.diffusion.schedule import linear, timesteps
from unclouded.errors import UncloudedError
from unclouded.models import unet
from unclouded.models.unet import UNet
from unclouded.models.unet_authors import de_from_authors, unet_key

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def weights(golden_dir: Path) -> Tensors:
    return load_file(golden_dir / "de_rgb.weights.safetensors")


@pytest.fixture(scope="module")
def io(golden_dir: Path) -> Tensors:
    return load_file(golden_dir / "de_rgb.io.safetensors")


@pytest.fixture(scope="module")
def networks(weights: Tensors) -> tuple[UNet, UNet]:
    cnp_config, cnp_state, wa_config, wa_state = de_from_authors(weights)
    assert wa_config is not None
    assert wa_state is not None
    cnp, wa = UNet(cnp_config).eval().requires_grad_(False), UNet(wa_config).eval().requires_grad_(False)
    cnp.load_state_dict(cnp_state)
    wa.load_state_dict(wa_state)
    return cnp.to(memory_format=torch.channels_last), wa.to(memory_format=torch.channels_last)


def de(networks: tuple[UNet, UNet], io: Tensors, weight_floor: float | None = 0.3) -> Denoiser:
    cnp, wa = networks
    y, x_E = io["cloudy"], io["reference"]
    return fused(eps_denoiser(cnp, linear(), y), wa, y, x_E, Weighing(weight_floor))


def assert_within(actual: Tensor, expected: Tensor, relative: float) -> None:
    assert (actual - expected).abs().max() / expected.abs().max() < relative


def test_shapes_tell_the_configurations(weights: Tensors) -> None:
    cnp, _, wa, _ = de_from_authors(weights)
    assert cnp == unet.UNetConfig(6, 3, channels=32)
    assert wa == unet.wa(bands=3)


def test_pure_diffusion_has_no_weight_allocation(weights: Tensors) -> None:
    stage1 = {key: tensor for key, tensor in weights.items() if not key.startswith("sjlnet.")}
    cnp, _, wa, wa_state = de_from_authors(stage1)
    assert cnp == unet.UNetConfig(6, 3, channels=32)
    assert (wa, wa_state) == (None, None)


def test_four_bands_change_only_the_first_and_last_convolutions(weights: Tensors) -> None:
    four = dict(weights)
    for prefix, images in (("", 2), ("sjlnet.", 3)):
        first, last = four[f"{prefix}input_blocks.0.0.weight"], four[f"{prefix}out.2.weight"]
        four[f"{prefix}input_blocks.0.0.weight"] = torch.zeros(len(first), 4 * images, 3, 3)
        four[f"{prefix}out.2.weight"] = torch.zeros(4, *last.shape[1:])
        four[f"{prefix}out.2.bias"] = torch.zeros(4)
    cnp_config, cnp_state, wa_config, wa_state = de_from_authors(four)
    assert wa_config == unet.wa(bands=4)
    for config, state, images in ((cnp_config, cnp_state, 2), (wa_config, wa_state, 3)):
        assert state is not None
        network = UNet(config)
        network.load_state_dict(state)
        assert network(torch.randn(1, 4 * images, 16, 16), torch.tensor([5])).shape == (1, 4, 16, 16)


@pytest.mark.parametrize(
    "key", ["input_blocks.1.0.in_layers.1.weight", "label_emb.weight", "out.0.scale", "out.1.bias"]
)
def test_unknown_tensor_is_named(key: str) -> None:
    with pytest.raises(UncloudedError, match=key):
        unet_key(key)


def test_incomplete_file_is_named(weights: Tensors) -> None:
    with pytest.raises(UncloudedError, match=r"time_embed\.0\.weight"):
        de_from_authors({key: tensor for key, tensor in weights.items() if key != "time_embed.0.weight"})


def test_one_evaluation(networks: tuple[UNet, UNet], io: Tensors) -> None:
    cnp, wa = networks
    x_t, y, x_E, t = io["x_t"], io["cloudy"], io["reference"], io["t"]
    assert_within(cnp(torch.cat((x_t, y), 1), t), io["eps"], 1e-4)
    assert_within(wa(torch.cat((x_t, y, x_E), 1), t), io["w"], 1e-4)


def test_training_loss_of_each_image(networks: tuple[UNet, UNet], io: Tensors) -> None:
    cnp, wa = networks
    x0, eps, y, x_E, t = io["train.x0"], io["train.noise"], io["cloudy"], io["reference"], io["t"]
    x_t = linear().add_noise(x0, eps, t)
    torch.testing.assert_close(x_t, io["train.x_t"], rtol=1e-6, atol=1e-6)
    eps_hat, w = cnp(torch.cat((x_t, y), 1), t), wa(torch.cat((x_t, y, x_E), 1), t)
    x0_eps = linear().x0_from_eps(x_t, eps_hat, t)
    for i, expected in enumerate(io["train.loss"]):
        loss = l_joint(l_ddpm(eps[i], eps_hat[i]), l_wa(x0[i], x0_eps[i], x_E[i], w[i]))
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("n", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_ddim(networks: tuple[UNet, UNet], io: Tensors, n: int) -> None:
    steps = timesteps(1000, n)
    run = list(ddim(de(networks, io), linear(), io[f"ddim{n}.x_T"], steps))
    assert run[n // 2].t == {10: 400, 50: 480}[n]
    assert_within(run[0].x0, io[f"ddim{n}.x0_first"], 1e-3)
    assert_within(run[n // 2].x0, io[f"ddim{n}.x0_mid"], 1e-3)
    assert_within(run[-1].x_next, io[f"ddim{n}.sample"], 1e-3)
