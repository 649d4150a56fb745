"""`forktail pretrain`: initial weights for a backbone, from labelled or unlabelled pictures."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Kind(StrEnum):
    """How a backbone is pretrained."""

    supervised = "supervised"
    mae = "mae"


class Dtype(StrEnum):
    """Type of the numbers in the file."""

    float32 = "float32"
    bfloat16 = "bfloat16"


def pretrain(
    data: Annotated[str, typer.Argument(help="Pictures to learn from; `symbols` made the embedded weights.")],
    out: Annotated[Path, typer.Option(help="Run directory; the weights are its encoder.safetensors.")],
    kind: Annotated[Kind, typer.Option(help="From labels, or by masked auto-encoding.")] = Kind.supervised,
    backbone: Annotated[str, typer.Option(help="Name of the backbone, which starts from random weights.")] = "tiny",
    dtype: Annotated[Dtype, typer.Option(help="Type of the numbers in the file.")] = Dtype.float32,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one value, such as plan.epochs=10.")
    ] = None,
) -> None:
    """Pretrain a backbone; `forktail fit --backbone OUT/encoder.safetensors` starts from it.

    The same command again goes on with an interrupted run.
    """
    from forktail.cli.progress import watcher
    from forktail.cli.tables import console
    from forktail.pretraining.pretrain import pretrain as run_pretraining

    with watcher() as progress:
        card = run_pretraining(
            data,
            kind.value,
            backbone=backbone,
            settings=settings or (),
            out=out,
            dtype=dtype.value,
            progress=progress,
        )
    console().print(f"{out / 'encoder.safetensors'}: {card['summary']}", highlight=False, markup=False)
