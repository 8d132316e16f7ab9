"""`unclouded data cloud-net`: train the network that estimates the cloud coverage of a benchmark's pairs."""

import json
from pathlib import Path

import click


@click.command(name="cloud-net")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--clear", type=click.Path(path_type=Path), help="Folder of clear RGB images, beside generated ones.")
@click.option("--steps", type=click.IntRange(min=1), default=700, show_default=True)
@click.option("--side", type=click.IntRange(min=16), default=96, show_default=True, help="Side of the crops.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print what was reached as JSON on stdout.")
def data_cloud_net(out: Path, clear: Path | None, steps: int, side: int, seed: int, as_json: bool) -> None:
    """Train Cloud-Net on simulated clouds and write it to the file OUT (.safetensors), for `data prepare --cloud-net`.

    Accuracy and Jaccard index are measured on simulated clouds that it was not trained on.
    """
    import torch

    from unclouded.errors import UsageError
    from unclouded.models.cloudnet import CloudNet, CloudNetConfig, save_cloud_net
    from unclouded.models.conversion import check_writable
    from unclouded.training.cloudnet import clear_images, score_cloud_net, train_cloud_net

    if out.suffix != ".safetensors":
        raise UsageError(f"A model file ends in .safetensors, not as {out.name}. Choose such an output.")
    check_writable([out], [], overwrite=False)
    images = clear_images(clear)
    torch.manual_seed(seed)
    model = CloudNet(CloudNetConfig())
    for step, loss in enumerate(train_cloud_net(model, images, steps, side=side, seed=seed), start=1):
        if step % 100 == 0 or step == steps:
            click.echo(f"step {step} of {steps}: loss {loss:.3f}", err=True)
    score = score_cloud_net(model, images, seed=seed + 1, side=side)
    data = ("generated landscapes", *([clear.resolve().name] if clear else []))
    summary = (
        f"Cloud-Net for RGB, trained on simulated clouds; on others like them Jaccard index {score.jaccard:.3f}, "
        f"accuracy {score.accuracy:.3f}"
    )
    save_cloud_net(out, model, summary, data, steps)
    click.echo(f"{out}: {summary}", err=True)
    if as_json:
        click.echo(json.dumps({"out": str(out), "steps": steps, "seed": seed} | score._asdict()))
