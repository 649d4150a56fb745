# ruff: noqa: E501 - a message is one line
"""Backbones, weights, runs and what is asked of a trained model."""

import argparse
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from scene import pixels
from table import Place, Row


def nothing(scene):
    """The folder stays empty."""


# --- backbones ---------------------------------------------------------------------------------------------------------


def offline(scene):
    import timm

    def create_model(*_, **__):
        raise OSError("the hub is out of reach\nand much more")

    scene.patch.setattr(timm, "create_model", create_model)


BACKBONE = Place(
    "backbone",
    "The name of a backbone, and the hub",
    "`tiny`, `minilm` for texts, or a name of timm. Only a name with a tag, or `hf-hub:...`, asks for a download.",
    (
        Row(
            "an unknown name",
            "fit glyphs --backbone vit_base_patch16_22",
            nothing,
            'no backbone named "vit_base_patch16_22"; expected tiny or a model of timm; did you mean "vit_base_patch16_224"?',
        ),
        Row(
            "an unknown tag",
            "fit glyphs --backbone vit_base_patch16_224.mea",
            nothing,
            'no weights "mea" of vit_base_patch16_224; expected a tag that timm knows; did you mean "vit_base_patch16_224.mae"?',
        ),
        Row(
            "texts are needed",
            "fit glyphs --backbone minilm",
            nothing,
            "the data are pictures, and the backbone minilm takes texts; expected a backbone for pictures; choose --backbone tiny, or another for pictures",
        ),
        Row(
            "more frozen units than may be",
            "fit glyphs --set backbone.name=tiny --set backbone.frozen_units=6",
            nothing,
            "backbone.frozen_units = 6 of a backbone of 6 units; expected 0 to 5, so that one is left to train",
            after_notes=True,
        ),
        Row(
            "masked pretraining with frozen units",
            "fit glyphs --method mae --set backbone.name=tiny --set backbone.frozen_units=1",
            nothing,
            "masked auto-encoding with backbone.frozen_units; expected a transformer of which all is trained; set backbone.frozen_units=0, or method.pretraining_epochs=0",
            after_notes=True,
        ),
        Row(
            "a teacher of texts",
            "fit glyphs --method deit_lt --set backbone.name=tiny --set method.teacher_weights=minilm",
            nothing,
            'method.teacher_weights = "minilm", which reads texts; expected a teacher that sees pictures',
            after_notes=True,
        ),
        Row(
            "a family without adapter",
            "fit glyphs --backbone convnext_atto",
            nothing,
            "a backbone of class timm.models.convnext.ConvNeXt; expected one that has an adapter (forktail.backbones.bert.Bert, forktail.backbones.cifar_resnet.CifarResNet, timm.models.resnet.ResNet, timm.models.vision_transformer.VisionTransformer); there is no adapter yet for this family; choose a plain vision transformer or a ResNet",
            after_notes=True,
        ),
        Row(
            "a folder without weights",
            "fit glyphs --backbone pre",
            lambda s: s.path("pre/x"),
            'backbone "pre" is a file or folder that is not called like weights; expected a name, a file that ends in .safetensors, .pth, .pt, .bin, or a folder with encoder.safetensors; give the file of weights',
        ),
        Row(
            "a file with another ending",
            "fit glyphs --backbone a.ckpt",
            lambda s: s.text("a.ckpt", ""),
            'backbone "a.ckpt" is a file or folder that is not called like weights; expected a name, a file that ends in .safetensors, .pth, .pt, .bin, or a folder with encoder.safetensors; give the file of weights',
        ),
        Row(
            "no connection",
            "fit glyphs --backbone vit_base_patch16_224.mae",
            offline,
            "vit_base_patch16_224.mae could not be loaded: the hub is out of reach; expected a connection to the hub, or the weights in its cache; or give a file of weights",
            after_notes=True,
        ),
        Row(
            "a repository that cannot be one",
            "fit glyphs --backbone hf-hub:a//b",
            nothing,
            "hf-hub:a//b could not be loaded: …; expected a connection to the hub, or the weights in its cache; or give a file of weights",
        ),
        Row(
            "embedded weights of another than tiny",
            "fit glyphs --backbone vit_tiny_patch16_224 --set backbone.weights=embedded",
            nothing,
            'embedded weights for "vit_tiny_patch16_224"; expected the backbone "tiny", the only one with embedded weights; name a file of weights, or \'random\'',
            after_notes=True,
        ),
        Row(
            "an input size of 0",
            "fit glyphs --set backbone.input_size=0",
            nothing,
            "backbone.input_size 0; expected 1 to 8192 pixels",
        ),
        Row(
            "an input size that the patches do not divide",
            "fit glyphs --backbone tiny --set backbone.input_size=30",
            nothing,
            "input size (30, 30) for the tiny backbone; expected a multiple of 4 pixels",
            after_notes=True,
        ),
        Row(
            "an input size below one patch",
            "fit glyphs --backbone vit_tiny_patch16_224 --set backbone.input_size=8",
            nothing,
            'input_size 8 of vit_tiny_patch16_224; expected 32 pixels or more for a model of timm; raise backbone.input_size, or use the backbone "tiny"',
            after_notes=True,
        ),
        Row(
            "a rate that is none",
            "fit glyphs --set backbone.drop_path=1",
            nothing,
            "backbone.drop_path 1.0; expected a rate from 0 to below 1",
        ),
    ),
)

# --- weights -----------------------------------------------------------------------------------------------------------


class Code:
    """What a pickle of it would do when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (self.path,)


def carrying_code(scene):
    torch.save({"model": Code(scene.folder / "made by the file"), "args": argparse.Namespace()}, scene.path("w.pth"))


def plain_pickle(scene):
    scene.content("w.pth", pickle.dumps(Code(scene.folder / "made by the file"), protocol=2))


def other_facts(scene):
    safetensors.torch.save_file({"a": torch.zeros(1)}, scene.path("w.safetensors"), {"forktail": "[1]"})


SAFE, PTH = "fit glyphs --backbone w.safetensors", "fit glyphs --backbone tiny --set backbone.weights=w.pth"

WEIGHTS = Place(
    "weights",
    "A file of weights",
    "safetensors, or a checkpoint of torch (`.pth`, `.pt`, `.bin`) that is read without running code; the arguments of a "
    "training script (`argparse.Namespace`) beside the weights are no error. A classifier or a decoder in the file is left "
    "out, with a warning.",
    (
        Row(
            "no such file",
            SAFE,
            nothing,
            "no file w.safetensors; expected 'random', 'embedded' or a file of weights; check the path",
        ),
        Row(
            "no weights",
            SAFE,
            lambda s: s.text("w.safetensors", "no weights"),
            "w.safetensors: …; expected a file of weights in the safetensors format; make it or fetch it again",
        ),
        Row(
            "an empty file",
            SAFE,
            lambda s: s.text("w.safetensors", ""),
            "w.safetensors: …; expected a file of weights in the safetensors format; make it or fetch it again",
        ),
        Row(
            "a truncated file",
            SAFE,
            lambda s: [s.weights("w.safetensors"), s.cut("w.safetensors")],
            "w.safetensors: …; expected a file of weights in the safetensors format; make it or fetch it again",
        ),
        Row(
            "a header of another program",
            SAFE,
            other_facts,
            "w.safetensors: says of itself [1]; expected the name of an architecture and a number of pixels; the file is damaged; make it again",
        ),
        Row(
            "no architecture in the file",
            "fit glyphs --backbone w.pth",
            lambda s: torch.save({}, s.path("w.pth")),
            "no backbone named, nor by w.pth; expected the name of an architecture; add `--set backbone.name=NAME`, for instance tiny, vit_small_patch16_224, vit_base_patch16_224",
        ),
        Row(
            "a weight missing",
            SAFE,
            lambda s: s.weights("w.safetensors", lambda state: state.pop("blocks.2.norm1.bias")),
            "w.safetensors: blocks.2.norm1.bias (64,) is missing; expected weights of this VisionTransformer; name the architecture and the input size with which the weights were made",
            after_notes=True,
        ),
        Row(
            "a weight too many",
            SAFE,
            lambda s: s.weights("w.safetensors", lambda state: state.update(extra=torch.zeros(5))),
            "w.safetensors: unexpected extra (5,); expected weights of this VisionTransformer; name the architecture and the input size with which the weights were made",
            after_notes=True,
        ),
        Row(
            "a weight of another shape",
            SAFE,
            lambda s: s.weights("w.safetensors", lambda state: state.update(pos_embed=torch.zeros(1, 9, 64))),
            "w.safetensors: pos_embed has shape (1, 9, 64); expected (1, 49, 64); name the architecture and the input size with which the weights were made",
            after_notes=True,
        ),
        Row(
            "a weight that is not finite",
            SAFE,
            lambda s: s.weights("w.safetensors", lambda state: state["pos_embed"].fill_(torch.nan)),
            "w.safetensors: pos_embed holds numbers that are not finite; expected finite weights; take an earlier checkpoint of that training",
            after_notes=True,
        ),
        Row(
            "weights of another architecture",
            "fit glyphs --backbone vit_tiny_patch16_224 --set backbone.weights=w.safetensors",
            lambda s: s.weights("w.safetensors"),
            "w.safetensors: unexpected fc_norm.bias (64,); expected weights of this VisionTransformer; name the architecture and the input size with which the weights were made",
            after_notes=True,
        ),
        Row(
            "a checkpoint that carries code",
            PTH,
            carrying_code,
            "w.pth cannot be read without running code that it carries, or is damaged; expected tensors alone; convert it to safetensors, or fetch it again",
            after_notes=True,
        ),
        Row(
            "a pickle that carries code",
            PTH,
            plain_pickle,
            "w.pth cannot be read without running code that it carries, or is damaged; expected tensors alone; convert it to safetensors, or fetch it again",
            after_notes=True,
        ),
        Row(
            "a damaged checkpoint",
            PTH,
            lambda s: s.text("w.pth", "no weights"),
            "w.pth cannot be read without running code that it carries, or is damaged; expected tensors alone; convert it to safetensors, or fetch it again",
            after_notes=True,
        ),
        Row(
            "more than tensors",
            PTH,
            lambda s: torch.save({"model": {"epoch": 3}}, s.path("w.pth")),
            "w.pth: more than tensors; expected tensors by name, or these under 'model' or 'state_dict'; save the state_dict of the model alone",
            after_notes=True,
        ),
    ),
)

# --- runs --------------------------------------------------------------------------------------------------------------

AGAIN = "fit set.npz --backbone tiny --set plan.epochs=1 --set plan.batch_size=8 --out run"


def run_with(change):
    def arrange(scene):
        scene.run()
        change(scene)

    return arrange


def written(name, content):
    return run_with(lambda scene: scene.text(f"run/{name}", content))


RUN = Place(
    "run",
    "A run directory",
    "What `forktail fit` wrote. The same command on an unfinished run goes on, on a finished one prints what it holds.",
    (
        Row(
            "no such folder",
            "evaluate run",
            nothing,
            "run: no such folder; expected a finished run or its model folder; train one with `forktail fit`",
        ),
        Row(
            "a file",
            "evaluate run",
            lambda s: s.text("run", ""),
            "run: a file; expected a finished run or its model folder; train one with `forktail fit`",
        ),
        Row(
            "an empty folder",
            "evaluate run",
            lambda s: s.path("run/x"),
            "run: holds no model; expected a finished run or its model folder; train one with `forktail fit`",
        ),
        Row(
            "an unfinished run",
            "evaluate run",
            lambda s: s.text("run/recipe.toml", ""),
            "run: an unfinished run; expected a finished run or its model folder; give the command that began it again: it goes on",
        ),
        Row(
            "no recipe",
            "evaluate run",
            run_with(lambda s: (s.folder / "run/recipe.toml").unlink()),
            "recipe run/recipe.toml: …; expected …",
        ),
        Row(
            "a damaged recipe",
            "evaluate run",
            written("recipe.toml", "[data\n"),
            "recipe run/recipe.toml: …; expected …",
        ),
        Row(
            "a recipe of another version",
            "evaluate run",
            written("recipe.toml", "[data]\nfile = 1\n"),
            'recipe: key "data.file" is unknown; did you mean "data.tail"?',
        ),
        Row(
            "its data are gone",
            "evaluate run",
            run_with(lambda s: (s.folder / "set.npz").unlink()),
            'no file, folder or named set "set.npz"; expected a path, or a named set; one of: fashion-mnist, glyphs, symbols, wordnet-gloss',
        ),
        Row(
            "truncated metrics",
            AGAIN,
            run_with(lambda s: s.cut("run/metrics.json")),
            "run/metrics.json: not valid JSON (…); expected a finished run; give the folder of a finished run, or train it again",
        ),
        Row(
            "empty metrics",
            AGAIN,
            written("metrics.json", ""),
            "run/metrics.json: not valid JSON (…); expected a finished run; give the folder of a finished run, or train it again",
        ),
        Row(
            "metrics of another kind",
            AGAIN,
            written("metrics.json", "[]"),
            "run/metrics.json: a JSON list; expected a JSON object; give the folder of a finished run, or train it again",
        ),
        Row(
            "metrics without a key",
            AGAIN,
            run_with(lambda s: s.json("run/metrics.json", accuracy=None)),
            "run/metrics.json: not as `forktail fit` wrote it (KeyError: 'accuracy'); expected the file of a finished run; give the folder of a finished run, or train it again",
        ),
        Row(
            "a selection without a key",
            AGAIN,
            run_with(lambda s: s.json("run/selection.json", depth=None)),
            "run/selection.json: not as `forktail fit` wrote it (KeyError: 'depth'); expected the file of a finished run; give the folder of a finished run, or train it again",
        ),
        Row(
            "a truncated selection",
            AGAIN,
            run_with(lambda s: s.cut("run/selection.json")),
            "run/selection.json: not valid JSON (…); expected a finished run; give the folder of a finished run, or train it again",
        ),
        Row(
            "a finished run of another recipe",
            f"{AGAIN} --set seed=1",
            run_with(nothing),
            "run: a finished run with another recipe (seed = 0 there, 1 now); choose another --out, such as run-2",
        ),
        Row(
            "a folder of other things",
            "fit glyphs --out run",
            lambda s: s.text("run/letter.txt", "dear"),
            "run: holds other files and no run; choose another --out",
        ),
        Row(
            "a file where the run shall be",
            "fit glyphs --out run",
            lambda s: s.text("run", ""),
            "run: a file; expected a folder to write to; choose another --out",
            after_notes=True,
        ),
    ),
)

# --- stages ------------------------------------------------------------------------------------------------------------


def unfinished(change):
    """A run whose stages are trained, but whose result is still to be written."""

    def arrange(scene):
        scene.run()
        (scene.folder / "run/metrics.json").unlink()
        shutil.rmtree(scene.folder / "run/model")
        change(sorted((scene.folder / "run/stages").glob("*/*.safetensors")))

    return arrange


def cut_all(name):
    def change(files):
        for file in files:
            if file.name == name:
                file.write_bytes(file.read_bytes()[:100])

    return change


def other_tensors(files):
    for file in files:
        if file.name == "result.safetensors":
            safetensors.torch.save_file({"objective.a": torch.zeros(1)}, file, {"forktail": json.dumps({"log": []})})


def other_checkpoint(files):
    for file in files:
        if file.name == "result.safetensors":
            file.unlink()
            facts = {"forktail": json.dumps({"cursor": {}, "scalars": {}, "groups": []})}
            safetensors.torch.save_file({"a": torch.zeros(1)}, file.with_name("checkpoint.safetensors"), facts)


LEFT = ("run",)

STAGES = Place(
    "stages",
    "Trained stages",
    "A run keeps what it has trained in `stages/`, or in a cache that runs share, and goes on from there.",
    (
        Row(
            "a truncated result",
            AGAIN,
            unfinished(cut_all("result.safetensors")),
            "run/stages/…/result.safetensors: damaged (…); expected what an earlier run wrote; delete run/stages/…; the stage is then trained again",
            True,
            leaves=LEFT,
        ),
        Row(
            "a result of another network",
            AGAIN,
            unfinished(other_tensors),
            "run/stages/…/result.safetensors: …; delete …; the stage is then trained again",
            True,
            leaves=LEFT,
        ),
        Row(
            "a checkpoint of another network",
            AGAIN,
            unfinished(other_checkpoint),
            "run/stages/…/checkpoint.safetensors: …; delete …; the stage is then trained again",
            True,
            leaves=LEFT,
        ),
        Row(
            "a truncated analysis",
            AGAIN,
            unfinished(cut_all("arrays.safetensors")),
            "run/stages/…/arrays.safetensors: …; delete …",
            True,
            leaves=LEFT,
        ),
    ),
)

# --- models ------------------------------------------------------------------------------------------------------------


def model_json(**changes):
    return run_with(lambda scene: scene.json("run/model/model.json", **changes))


def without_weight(scene):
    path = scene.folder / "run/model/model.safetensors"
    state = safetensors.torch.load_file(path)
    state.pop(sorted(state)[0])
    safetensors.torch.save_file(state, path)


def not_finite(scene):
    path = scene.folder / "run/model/model.safetensors"
    state = safetensors.torch.load_file(path)
    next(value for value in state.values() if value.ndim > 1).fill_(torch.nan)
    safetensors.torch.save_file(state, path)


def gone(name):
    return run_with(lambda scene: (scene.folder / "run/model" / name).unlink())


PREDICTING = "predict run 0.png"

MODEL = Place(
    "model",
    "A trained model",
    "`model/model.json` and `model/model.safetensors` of a run.",
    (
        Row(
            "no description",
            "predict run/model 0.png",
            gone("model.json"),
            "run/model: holds no model; expected a finished run or its model folder; train one with `forktail fit`",
        ),
        Row(
            "no JSON",
            PREDICTING,
            written("model/model.json", "{"),
            "run/model/model.json: not valid JSON (…); expected a model description; the run is damaged: train it again with another --out",
        ),
        Row(
            "another kind of JSON",
            PREDICTING,
            written("model/model.json", "[]"),
            "run/model/model.json: written by another version of forktail, or damaged; expected format 1; the run is damaged: train it again with another --out",
        ),
        Row(
            "of another version",
            PREDICTING,
            model_json(format=99),
            "run/model/model.json: written by another version of forktail, or damaged; expected format 1; the run is damaged: train it again with another --out",
        ),
        Row(
            "a key missing",
            PREDICTING,
            model_json(classes=None),
            "run/model/model.json: not a model description (classes: field required); expected what `forktail fit` wrote; the run is damaged: train it again with another --out",
        ),
        Row(
            "a key too many",
            PREDICTING,
            model_json(colour="red"),
            "run/model/model.json: not a model description (unknown: colour); expected what `forktail fit` wrote; the run is damaged: train it again with another --out",
        ),
        Row(
            "counts that are no numbers",
            PREDICTING,
            model_json(counts=["many", "few", "few"]),
            "run/model/model.json: not a model description (counts.0: …); expected what `forktail fit` wrote; the run is damaged: train it again with another --out",
        ),
        Row(
            "fewer classes than counts",
            PREDICTING,
            model_json(classes=["a", "b"]),
            "run/model/model.json: not a model description (2 classes, 3 counts, tasks ((0, 1), (2,))); expected what `forktail fit` wrote; the run is damaged: train it again with another --out",
        ),
        Row(
            "tasks that lack a class",
            PREDICTING,
            model_json(tasks=[[0], [1]]),
            "run/model/model.json: not a model description (3 classes, 3 counts, tasks ((0,), (1,))); expected what `forktail fit` wrote; the run is damaged: train it again with another --out",
        ),
        Row(
            "a method that is not installed",
            PREDICTING,
            model_json(method="my_method"),
            'run: method "my_method" is unknown; one of: …',
        ),
        Row(
            "options of another method",
            PREDICTING,
            model_json(options={"speed": 3}),
            "run: …; the model was made by another version of its method",
        ),
        Row(
            "an option of another type",
            PREDICTING,
            model_json(options={"depth": "deep"}),
            "run: method.depth = 'deep'; expected a whole number >= 0",
        ),
        Row(
            "a structure of another method",
            PREDICTING,
            model_json(structure={}),
            "run: …; the model was made by another version of its method",
        ),
        Row(
            "a structure out of range",
            PREDICTING,
            model_json(structure={"depth": 99}),
            "run: shared depth 99; expected 0 to 6, as many units as there are to share",
        ),
        Row(
            "no weights",
            PREDICTING,
            gone("model.safetensors"),
            "run/model/model.safetensors: no such file or directory; expected the model's weights; the run is damaged: train it again with another --out",
        ),
        Row(
            "truncated weights",
            PREDICTING,
            run_with(lambda s: s.cut("run/model/model.safetensors")),
            "run/model/model.safetensors: …; expected the model's weights; the run is damaged: train it again with another --out",
        ),
        Row(
            "garbled weights",
            PREDICTING,
            written("model/model.safetensors", "x" * 999),
            "run/model/model.safetensors: …; expected the model's weights; the run is damaged: train it again with another --out",
        ),
        Row(
            "a weight missing",
            PREDICTING,
            run_with(without_weight),
            "run/model/model.safetensors: does not fit its model.json (…); expected weights and description of one model; the run is damaged: train it again with another --out",
        ),
        Row(
            "a weight that is not finite",
            PREDICTING,
            run_with(not_finite),
            "run/model/model.safetensors: network.branches.0.classifier.weight holds numbers that are not finite; expected finite weights; the run is damaged: train it again with another --out",
        ),
    ),
)

# --- priors ------------------------------------------------------------------------------------------------------------

WITH_PRIOR = "predict run 0.png --prior my.json"


def prior(content):
    return run_with(lambda scene: [scene.picture("0.png"), scene.text("my.json", content)])


PRIOR = Place(
    "prior",
    "--prior",
    "`uniform`, `train`, or a JSON file with a list of one number per class, in the order of the classes.",
    (
        Row(
            "another word",
            "predict run 0.png --prior unifrom",
            run_with(nothing),
            '--prior "unifrom": no such file; expected "uniform", "train" or a JSON file with a list of one number per class; did you mean "uniform"?',
        ),
        Row(
            "no such file",
            WITH_PRIOR,
            run_with(nothing),
            '--prior "my.json": no such file; expected "uniform", "train" or a JSON file with a list of one number per class; one of: train, uniform',
        ),
        Row(
            "a folder",
            WITH_PRIOR,
            run_with(lambda s: s.path("my.json/x")),
            'my.json: is a directory; expected "uniform", "train" or a JSON file with a list of one number per class; write it like [0.5, 0.3, 0.2]',
        ),
        Row(
            "no JSON",
            WITH_PRIOR,
            prior("[1, 2"),
            'my.json: not valid JSON (…); expected "uniform", "train" or a JSON file with a list of one number per class; write it like [0.5, 0.3, 0.2]',
        ),
        Row(
            "brackets without an end",
            WITH_PRIOR,
            prior("[" * 100_000),
            'my.json: not valid JSON (…); expected "uniform", "train" or a JSON file with a list of one number per class; write it like [0.5, 0.3, 0.2]',
        ),
        Row(
            "no list",
            WITH_PRIOR,
            prior('{"a": 1}'),
            'my.json: no list of numbers; expected "uniform", "train" or a JSON file with a list of one number per class; write it like [0.5, 0.3, 0.2]',
        ),
        Row(
            "no numbers",
            WITH_PRIOR,
            prior("[true, true, false]"),
            'my.json: no list of numbers; expected "uniform", "train" or a JSON file with a list of one number per class; write it like [0.5, 0.3, 0.2]',
        ),
        Row(
            "another number of classes",
            WITH_PRIOR,
            prior("[1, 2]"),
            "prior with shape (2,) and smallest entry 1; expected 3 finite numbers > 0, one per class; give the numbers in the order of the classes in model.json",
        ),
        Row(
            "a 0",
            WITH_PRIOR,
            prior("[1, 2, 0]"),
            "prior with shape (3,) and smallest entry 0; expected 3 finite numbers > 0, one per class; give the numbers in the order of the classes in model.json",
        ),
        Row(
            "a number that is none",
            WITH_PRIOR,
            prior("[1, 2, NaN]"),
            "prior with shape (3,) and smallest entry nan; expected 3 finite numbers > 0, one per class; give the numbers in the order of the classes in model.json",
        ),
        Row(
            "a huge number",
            WITH_PRIOR,
            prior(f"[1, 2, {10**400}]"),
            "prior: …; expected 3 finite numbers > 0, one per class; give the numbers in the order of the classes in model.json",
        ),
    ),
)

# --- pictures to classify, data to measure on --------------------------------------------------------------------------


def broken_among_good(scene):
    scene.run()
    scene.picture("new/a.png")
    scene.text("new/b.png", "no picture")


def truncated(scene):
    import numpy as np
    from PIL import Image

    scene.run()
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (40, 40, 3)).astype(np.uint8)).save(scene.path("0.png"))
    scene.cut("0.png")


PREDICT = Place(
    "predict",
    "Pictures to classify",
    "Files of any ending, and folders of pictures. What can be read is classified and printed; the others are named.",
    (
        Row(
            "no such file",
            PREDICTING,
            run_with(nothing),
            "0.png: no such file; expected a picture or a folder of pictures",
        ),
        Row(
            "a folder without pictures",
            "predict run new",
            run_with(lambda s: s.text("new/a.txt", "")),
            "new: no picture in this folder; expected a file or a folder of pictures; their names end in .bmp, .gif, .jfif, .jpe, .jpeg, .jpg, .pbm, .pgm, .png, .pnm, .ppm, .tga, .tif, .tiff, .webp",
        ),
        Row(
            "no picture",
            PREDICTING,
            run_with(lambda s: s.text("0.png", "no picture")),
            "1 of 1 were left out: 0.png: cannot be read as a picture (not a picture); expected pictures that can be decoded; mend them or leave them out",
        ),
        Row(
            "an empty file",
            PREDICTING,
            run_with(lambda s: s.text("0.png", "")),
            "1 of 1 were left out: 0.png: cannot be read as a picture (an empty file); expected pictures that can be decoded; mend them or leave them out",
        ),
        Row(
            "a truncated picture",
            PREDICTING,
            truncated,
            "1 of 1 were left out: 0.png: cannot be read as a picture (image file is truncated); expected pictures that can be decoded; mend them or leave them out",
        ),
        Row(
            "one of several",
            "predict run new",
            broken_among_good,
            "1 of 2 were left out: new/b.png: cannot be read as a picture (not a picture); expected pictures that can be decoded; mend them or leave them out; the others stand above",
            prints=True,
        ),
        Row(
            "a name of two lines",
            "predict run 'a\nb.png'",
            run_with(nothing),
            "a\\nb.png: no such file; expected a picture or a folder of pictures",
        ),
    ),
)


def other_classes(scene):
    scene.run()
    scene.classes("other", cat=2, dog=2)


def other_broken(scene):
    scene.run()
    scene.classes("other", **{"0": 2, "1": 2})
    scene.text("other/1/x.png", "no picture")


EVALUATE = Place(
    "evaluate",
    "Other data to measure on",
    "As for training, with the classes of the model or some of them.",
    (
        Row(
            "nothing there",
            "evaluate run nowhere",
            run_with(nothing),
            'no file, folder or named set "nowhere"; expected a path, or a named set; one of: fashion-mnist, glyphs, symbols, wordnet-gloss',
        ),
        Row(
            "other classes",
            "evaluate run other",
            other_classes,
            "other: 2 classes that the model does not know: cat, dog; expected some of its 3 classes, such as 0, 1, 2",
        ),
        Row(
            "a picture that cannot be read",
            "evaluate run other",
            other_broken,
            '1 picture cannot be read: "other/1/x.png (not a picture)"; expected pictures that can be decoded; mend or delete them, or leave them out with `--set data.unreadable=skip`',
        ),
    ),
)


def other_command(scene):
    scene.run()
    scene.text("run/runs/note.txt", "")
    scene.text("run/comparison.json", "{}")


COMPARING = "compare set.npz --methods ce,logit_adjustment --seeds 0 --backbone tiny --set plan.epochs=1 --out both"


def compared(name, content):
    """A finished comparison, in which a file of a run was changed."""

    def arrange(scene):
        from forktail.comparing.compare import compare

        scene.arrays()
        compare("set.npz", "ce,logit_adjustment", seeds=[0], backbone="tiny", settings=["plan.epochs=1"], out="both")
        next((scene.folder / "both").glob(f"runs/**/{name}")).write_text(content)

    return arrange


GRID_OF_ONE = "grid set.npz --weights 1 --depths 3 --seeds 0 --readings sandwich --set backbone.name=resnet8 --set backbone.weights=random --set plan.epochs=0 --out grid"


def measured(content):
    """A finished grid, in which what one piece measured was changed."""

    def arrange(scene):
        from forktail.grids.grid import grid

        scene.arrays(x_train=pixels(30), y_train=np.arange(30) % 3)
        settings = ["backbone.name=resnet8", "backbone.weights=random", "plan.epochs=0"]
        grid("set.npz", weights=1, depths=[3], seeds=[0], readings="sandwich", settings=settings, out="grid")
        (scene.folder / "grid/runs/seed-0-weight-0.5/column.json").write_text(content)

    return arrange


GRID = Place(
    "grid",
    "Grids",
    "What `forktail grid` is asked for, and the pieces that it goes on from.",
    (
        Row(
            "an even number of weights",
            "grid glyphs --weights 4",
            nothing,
            "--weights 4; expected an odd number >= 1, so that 1/2 is among them",
        ),
        Row(
            "an unknown reading",
            "grid glyphs --readings sandwitch",
            nothing,
            '--readings "sandwitch"; did you mean "sandwich"?',
        ),
        Row(
            "depths without the deepest",
            "grid glyphs --depths 0,2 --set data.n_max=5 --set data.imbalance=2",
            nothing,
            "--depths 0,2; expected different numbers from 0 to 6, the units of the backbone, with 6 among them",
        ),
        Row(
            "a part of nothing",
            "grid glyphs --part 3/2",
            nothing,
            "--part 3/2; expected I/N with 1 <= I <= N, such as 2/10",
        ),
        Row("a part in words", "grid glyphs --part first", nothing, '--part "first"; expected I/N, such as 2/10'),
        Row(
            "a cell that is pinned",
            "grid glyphs --set method.weight=0.3",
            nothing,
            "method.weight = 0.3 in a grid; leave it out; a grid has all: --weights",
        ),
        Row(
            "a folder of other things",
            "grid glyphs --set data.n_max=5 --set data.imbalance=2 --out run",
            lambda s: s.text("run/letter.txt", "dear"),
            "run: holds other files and no grid; choose another --out",
        ),
        Row(
            "too few images for a validation part",
            "grid set.npz --seeds 0 --backbone tiny",
            lambda s: s.arrays(),
            "no validation images, with which a grid search is made; expected a validation part, or a class with 5 images of which one can be held out; leave data.validation to the grid, or give it more images",
        ),
        Row(
            "a piece is damaged",
            GRID_OF_ONE,
            measured("{"),
            "grid/runs/seed-0-weight-0.5/column.json: not valid JSON (…); expected a finished run; give the folder of a finished run, or train it again",
            after_notes=True,
        ),
        Row(
            "a piece lacks a key",
            GRID_OF_ONE,
            measured('{"weight": 0.5}'),
            "grid/runs/seed-0-weight-0.5/column.json: not as `forktail fit` wrote it (…); expected the file of a finished run; give the folder of a finished run, or train it again",
            after_notes=True,
        ),
    ),
)

COMPARE = Place(
    "compare",
    "Comparisons and reports",
    "What `forktail compare` and `forktail report` are asked for, and the runs that they read.",
    (
        Row(
            "seeds that are no numbers",
            "compare glyphs --seeds 0,one",
            nothing,
            '--seeds "0,one"; expected numbers, separated by commas, such as 0,1,2',
        ),
        Row(
            "an unknown method",
            "compare glyphs --methods ce,osdwt",
            nothing,
            'method "osdwt" is unknown; did you mean "osdtw"?',
        ),
        Row(
            "an unknown option of a method",
            "compare glyphs --methods ce,osdtw:speed=3",
            nothing,
            'recipe: key "method.speed" is unknown; did you mean "method.debiased"?',
        ),
        Row(
            "a folder of other things",
            "compare glyphs --out run",
            lambda s: s.text("run/letter.txt", "dear"),
            "run: holds other files and no comparison; choose another --out",
        ),
        Row(
            "a report of nothing",
            "report run",
            nothing,
            "run: no finished run, comparison or grid; expected what fit, compare or grid wrote",
        ),
        Row(
            "a report of an unfinished run",
            "report run",
            lambda s: s.text("run/recipe.toml", ""),
            "run: no finished run, comparison or grid; expected what fit, compare or grid wrote",
        ),
        Row(
            "a report on damaged metrics",
            "report run",
            run_with(lambda s: s.cut("run/metrics.json")),
            "run/metrics.json: not valid JSON (…); expected a finished run; give the folder of a finished run, or train it again",
        ),
        Row(
            "a report on a damaged recipe",
            "report run",
            written("recipe.toml", "[data\n"),
            "run/recipe.toml: …; expected …",
        ),
        Row(
            "a report on a damaged criterion",
            "report run",
            written("criterion.csv", "depth\nx\n"),
            "run/criterion.csv: …; expected …",
        ),
        Row("a report on a damaged log", "report run", written("log.jsonl", "{"), "run/log.jsonl: …; expected …"),
        Row("a report on a damaged comparison", "report run", other_command, "run/comparison.json: …; expected …"),
        Row(
            "metrics of a run are damaged",
            COMPARING,
            compared("metrics.json", "{"),
            "both/runs/…/metrics.json: not valid JSON (…); expected a finished run; give the folder of a finished run, or train it again",
            after_notes=True,
        ),
        Row(
            "metrics of a run lack a key",
            COMPARING,
            compared("metrics.json", "{}"),
            "both/runs/…/metrics.json: …; expected …",
            True,
            leaves=("both",),
        ),
        Row(
            "the clock of a run is damaged",
            COMPARING,
            compared("timing.jsonl", "{"),
            "both/runs/…/timing.jsonl: …; expected …",
            True,
            leaves=("both",),
        ),
        Row(
            "the cost of a run is damaged",
            COMPARING,
            compared("cost.json", "[]"),
            "both/runs/…/cost.json: …; expected …",
            True,
            leaves=("both",),
        ),
    ),
)
