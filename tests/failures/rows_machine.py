# ruff: noqa: E501 - a message is one line
"""The machine: device, disk, and what the training runs into."""

import errno
import os

from table import Place, Row

CE = "fit set.npz --method ce --backbone tiny --set plan.epochs=1 --out run"


def nothing(scene):
    """The folder stays empty."""


def no_gpu(scene):
    import torch

    scene.arrays()
    scene.patch.setattr(torch.cuda, "is_available", lambda: False)


DEVICE = Place(
    "device",
    "The device",
    "`auto` takes a GPU where there is one.",
    (
        Row(
            "an unknown device",
            "predict run 0.png --device gpu",
            lambda s: s.run(),
            'device "gpu" is unknown; did you mean "cpu"?',
        ),
        Row(
            "no GPU",
            f"{CE} --set device=cuda",
            no_gpu,
            'device "cuda": torch finds no GPU; use "cpu" or "auto"',
            after_notes=True,
        ),
        Row(
            "an unknown device for training",
            f"{CE} --set device=gpu",
            lambda s: s.arrays(),
            'device "gpu" is unknown; did you mean "cpu"?',
            after_notes=True,
        ),
    ),
)


def refuse(number):
    def fails(*_, **__):
        raise OSError(number, os.strerror(number))

    return fails


def read_only(scene):
    scene.arrays()
    mkdir = os.mkdir

    def guarded(path, *rest, **more):
        if "run" in os.fspath(path):
            refuse(errno.EROFS)()
        mkdir(path, *rest, **more)

    scene.patch.setattr(os, "mkdir", guarded)


def not_ours(scene):
    scene.arrays()
    scene.path("closed/x").parent.chmod(0o555)


def full_from(*names):
    """The disk is full as soon as one of these files is written."""

    def arrange(scene):
        scene.arrays()
        fsync = os.fsync

        def guarded(descriptor):
            if any(name in os.readlink(f"/proc/self/fd/{descriptor}") for name in names):
                refuse(errno.ENOSPC)()
            fsync(descriptor)

        scene.patch.setattr(os, "fsync", guarded)

    return arrange


def locked(scene):
    from filelock import FileLock

    scene.arrays()
    lock = FileLock(scene.path("run/.lock"))
    lock.acquire()
    scene.patch.setattr(scene.patch, "lock", lock, raising=False)  # held until the end of the test


DISK = Place(
    "disk",
    "The folder to write to",
    "Files are replaced in one step. After a full disk the same command goes on with what is finished.",
    (
        Row(
            "a read-only disk",
            CE,
            read_only,
            "run: cannot be written (read-only file system); choose another place",
            after_notes=True,
        ),
        Row(
            "a folder of somebody else",
            CE.replace("run", "closed/run"),
            not_ours,
            "closed/run: cannot be written (permission denied); choose another place",
            True,
            as_user=True,
        ),
        Row(
            "no room for the recipe",
            CE,
            full_from("recipe.toml"),
            "run/recipe.toml: cannot be written (no space left on device); make room and give the same command again: what is finished is kept",
            after_notes=True,
        ),
        Row(
            "no room for a stage",
            CE,
            full_from("result.safetensors"),
            "run/stages/…/result.safetensors: cannot be written (no space left on device); make room and give the same command again: what is finished is kept",
            True,
            leaves=("run",),
        ),
        Row(
            "no room for the model",
            CE,
            full_from("model.safetensors"),
            "run/model/model.safetensors: cannot be written (no space left on device); make room and give the same command again: what is finished is kept",
            True,
            leaves=("run",),
        ),
        Row(
            "no room for the metrics",
            CE,
            full_from("metrics.json"),
            "run/metrics.json: cannot be written (no space left on device); make room and give the same command again: what is finished is kept",
            True,
            leaves=("run",),
        ),
        Row(
            "no room for pretrained weights",
            "pretrain set.npz --set plan.epochs=0 --out run",
            full_from("encoder.safetensors"),
            "run/encoder.safetensors: cannot be written (no space left on device); make room and give the same command again: what is finished is kept",
            True,
            leaves=("run",),
        ),
        Row(
            "another process writes there",
            CE,
            locked,
            "run: another process is writing there; expected one writer per run directory; wait for it, or choose another --out",
            after_notes=True,
        ),
    ),
)

TRAINING = Place(
    "training",
    "The training itself",
    "What was trained before stays, and is not trained again.",
    (
        Row(
            "it diverges",
            f"{CE} --set plan.lr=1000 --set plan.warmup=0 --set plan.clip=0 --set plan.epochs=30 --set plan.optimizer=sgd",
            lambda s: s.arrays(),
            "stage training diverged at step …: first tensor that is not finite: …; expected finite losses and gradients; lower plan.lr or raise plan.warmup, and give the command again",
            True,
            leaves=("run",),
        ),
        Row(
            "a budget below one step",
            f"{CE} --set plan.flops=1",
            lambda s: s.arrays(),
            "stage training: 1 floating-point operations are for it; expected at least …, one step; raise plan.flops, or plan.epochs in a comparison, or lower plan.batch_size",
            after_notes=True,
        ),
    ),
)


def without_glyphs(scene):
    from forktail.data import embedded

    embedded.embedded.cache_clear()
    scene.patch.setattr(embedded, "FILE", scene.folder / "glyphs.npz")


def without_tiny(scene):
    from forktail.backbones import open as backbones

    scene.arrays()
    scene.patch.setattr(backbones, "EMBEDDED", scene.folder / "tiny.safetensors")


INSTALLATION = Place(
    "installation",
    "The installation",
    "Drawings and weights that ship with the package.",
    (
        Row(
            "the drawings are missing",
            "fit glyphs",
            without_glyphs,
            "glyphs.npz, which ships with the package: no such file or directory; expected a whole installation; reinstall forktail",
        ),
        Row(
            "the weights are missing",
            CE,
            without_tiny,
            "no embedded weights: tiny.safetensors is not part of this installation; expected the weights that ship with the package; reinstall forktail, or ask for weights 'random'",
            after_notes=True,
        ),
    ),
)
