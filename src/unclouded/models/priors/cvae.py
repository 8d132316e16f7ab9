"""CVAE, a reference prior that knows several answers: a conditional variational autoencoder with transformer encoders.

Ding et al., "Uncertainty-Based Thin Cloud Removal Network via Conditional Variational Autoencoders", ACCV 2022. A
latent z says which of the clear images that fit the cloudy one is meant; several decodes differ where the image is
uncertain. The paper gives the graphical model and the encoder's kind; widths and depths are ours, close to the 15.56
M parameters that the DE paper reports. Position enters by depthwise convolutions, so that any image size fits.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclouded.models.padding import crop, pad_to_multiple

MULTIPLE = 8
WIDTHS = (32, 64, 128)  # at full, half and quarter size; tokens stand at an eighth


class TransformerBlock(nn.Module):
    """Self-attention over all places and a small network per place, [B, c, h, w] to the same."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.position = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        x = (x + self.position(x)).flatten(2).transpose(1, 2)  # [B, places, c]
        qkv = self.qkv(self.norm1(x)).view(batch, -1, 3, self.heads, channels // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, -1, channels)
        x = x + self.project(attended)
        x = x + self.mlp(self.norm2(x))
        return x.transpose(1, 2).reshape(batch, channels, height, width)


class Encoder(nn.Module):
    """Convolutions down to an eighth of the size, then transformer blocks; gives the tokens and the finer features."""

    def __init__(self, bands: int, channels: int, depth: int, heads: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(bands, WIDTHS[0], 3, padding=1)
        after = (*WIDTHS[1:], channels)
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in zip(WIDTHS, after, strict=True))
        self.blocks = nn.Sequential(*(TransformerBlock(channels, heads) for _ in range(depth)))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = F.gelu(self.stem(x))
        skips = []
        for down in self.downs:
            skips.append(x)
            x = F.gelu(down(x))
        return self.blocks(x), skips


class Decoder(nn.Module):
    """(tokens with z, finer features of y) to what is to be added to y."""

    def __init__(self, bands: int, channels: int, latent: int) -> None:
        super().__init__()
        self.merge = nn.Conv2d(channels + latent, channels, 3, padding=1)
        before = (*WIDTHS[1:], channels)
        self.ups = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in zip(WIDTHS, before, strict=True))
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * a, a, 3, padding=1), nn.GELU(), nn.Conv2d(a, a, 3, padding=1), nn.GELU())
            for a in WIDTHS
        )
        self.head = nn.Conv2d(WIDTHS[0], bands, 3, padding=1)

    def forward(self, tokens: Tensor, z: Tensor, skips: list[Tensor]) -> Tensor:
        x = F.gelu(self.merge(torch.cat([tokens, z], 1)))
        for up, conv, skip in zip(reversed(self.ups), reversed(self.convs), reversed(skips), strict=True):
            x = conv(torch.cat([F.pixel_shuffle(up(x), 2), skip], 1))
        return self.head(x)  # type: ignore[no-any-return]


class CVAE(nn.Module):
    """Reference prior: cloudy `y` [B, bands, H, W] in [0, 1] to clear [B, bands, H, W] in [0, 1], any H×W.

    The call decodes the most likely z and so has one answer; `sample` draws several.
    """

    def __init__(self, bands: int = 3, channels: int = 256, depth: int = 8, heads: int = 8, latent: int = 48) -> None:
        super().__init__()
        self.latent, self.stride = latent, MULTIPLE
        self.encoder = Encoder(bands, channels, depth, heads)
        self.prior = nn.Conv2d(channels, 2 * latent, 1)
        self.posterior_encoder = Encoder(2 * bands, channels, depth, heads)
        self.posterior = nn.Conv2d(channels, 2 * latent, 1)
        self.decoder = Decoder(bands, channels, latent)

    def forward(self, y: Tensor) -> Tensor:
        height, width = y.shape[-2:]
        y = pad_to_multiple(y, MULTIPLE)
        tokens, skips = self.encoder(y)
        mu, _ = self.prior(tokens).chunk(2, 1)
        return crop(y + self.decoder(tokens, mu, skips), height, width).clamp(0, 1)

    def sample(self, y: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """A clear image for each `noise` [B, latent, ⌈H/8⌉, ⌈W/8⌉], normal: [n, B, bands, H, W] in [0, 1]; their
        spread is the uncertainty."""
        height, width = y.shape[-2:]
        y = pad_to_multiple(y, MULTIPLE)
        tokens, skips = self.encoder(y)  # once for all decodes
        mu, log_var = self.prior(tokens).chunk(2, 1)
        draws = []
        for eps in noise:
            z = mu + (log_var / 2).exp() * eps.to(mu)
            draws.append(crop(y + self.decoder(tokens, z, skips), height, width).clamp(0, 1))
        return torch.stack(draws)

    def training_losses(self, y: Tensor, x0: Tensor) -> dict[str, Tensor]:
        """The evidence bound: L1 of the image decoded from q(z | x0, y), and 0.001 of KL(q ‖ p(z | y)) per latent
        number."""
        y, x0 = pad_to_multiple(y, MULTIPLE), pad_to_multiple(x0, MULTIPLE)
        tokens, skips = self.encoder(y)
        p_mu, p_log_var = self.prior(tokens).chunk(2, 1)
        q_mu, q_log_var = self.posterior(self.posterior_encoder(torch.cat([x0, y], 1))[0]).chunk(2, 1)
        z = q_mu + (q_log_var / 2).exp() * torch.randn_like(q_mu)
        x = y + self.decoder(tokens, z, skips)
        return {"l1": F.l1_loss(x, x0), "kl": 1e-3 * gaussian_kl(q_mu, q_log_var, p_mu, p_log_var)}


# KL(q ‖ p) = ½ Σ [log σ_p²/σ_q² + (σ_q² + (μ_q − μ_p)²)/σ_p² − 1]; the mean over all latent numbers
def gaussian_kl(q_mu: Tensor, q_log_var: Tensor, p_mu: Tensor, p_log_var: Tensor) -> Tensor:
    """Between diagonal normal distributions."""
    ratio = (q_log_var - p_log_var).exp() + (q_mu - p_mu).square() * (-p_log_var).exp()
    return (p_log_var - q_log_var + ratio - 1).mean() / 2
