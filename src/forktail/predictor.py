"""A trained model as everything else sees it: scores under a stated prior, saved without pickle."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn, final

import numpy as np
import numpy.typing as npt
import safetensors
import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from forktail.backbones.open import BackboneSpec
from forktail.data.augment import Preprocess
from forktail.data.loose_pictures import open_loose_picture
from forktail.data.picture_files import as_rgb
from forktail.data.word_pieces import WordPieces
from forktail.errors import InputError, nearest
from forktail.files import read_json, reason, write_atomically
from forktail.labels import ClassCounts, TaskSplit

FORMAT = 1
AGAIN = "the run is damaged: train it again with another --out"
IN_ORDER = "give the numbers in the order of the classes in model.json"

Rule = Literal["softmax", "adjusted", "margin", "posterior"]
Prior = Literal["uniform", "train"] | Sequence[float]


def uniform_scores(outputs: Tensor, log_prior: Tensor, rule: Rule, tau: float = 1.0) -> Tensor:
    r"""Turn a network's outputs into logits under a uniform class prior.

    docs/theory, "Prediction". With outputs z and training prior pi:

    - ``softmax`` (trained by cross-entropy): $z_c - \log\pi_c$
    - ``adjusted`` (trained by logit-adjusted cross-entropy): $z_c$
    - ``margin`` (trained by logit-adjusted BCE, the paper's rule): $z_c$, which only approximates a uniform prior
    - ``posterior`` (the same training, exact): $\log\sigma(z_c + \tau\,\mathrm{logit}\,\pi_c) - \log\pi_c$

    Args:
        outputs: (B, C) outputs of the network.
        log_prior: (C,) logarithms of the training prior.
        rule: How the network was trained and is to be read.
        tau: Strength of the adjustment in training. ``adjusted`` and ``margin`` read z as it is at any tau, as their
            authors do; they speak of a uniform prior at tau = 1.

    Returns:
        (B, C) scores; ``softmax(scores + log p)`` is the posterior under the class prior p.

    Example:
        >>> z, log_prior = torch.tensor([[2.0, 1.9]]), torch.tensor([0.9, 0.1]).log()
        >>> uniform_scores(z, log_prior, "margin").argmax(1), uniform_scores(z, log_prior, "softmax").argmax(1)
        (tensor([0]), tensor([1]))
    """
    if rule == "softmax":
        return outputs - log_prior
    if rule == "posterior":
        return logsigmoid(outputs + tau * prior_logit(log_prior)) - log_prior
    return outputs


def prior_logit(log_prior: Tensor) -> Tensor:
    """Return log pi - log(1 - pi), the offset of the logit-adjusted binary cross-entropy.

    Args:
        log_prior: (C,) logarithms of the prior.

    Returns:
        (C,) offsets.
    """
    return log_prior - torch.log1p(-log_prior.exp())


@dataclass(frozen=True)
class ModelSpec:
    """All of a model but its weights, as JSON.

    Args:
        method: Name of the method that made it.
        options: The method's hyper-parameters.
        backbone: Which backbone; its initial weights are of no matter once the model is trained.
        preprocess: How a picture or text becomes an input.
        classes: Names in class order.
        counts: Training images of each class.
        tasks: Classes of each task.
        structure: What the method decided while it ran and `Method.build` has to know.
    """

    method: str
    options: dict[str, Any]
    backbone: BackboneSpec
    preprocess: Preprocess | WordPieces
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    tasks: tuple[tuple[int, ...], ...]
    structure: dict[str, Any] = field(default_factory=dict)

    @property
    def class_counts(self) -> ClassCounts:
        """The training counts as a type of their own."""
        return ClassCounts(np.asarray(self.counts))

    @property
    def split(self) -> TaskSplit:
        """The tasks as a type of their own."""
        return TaskSplit(tuple(np.asarray(task) for task in self.tasks))

    def with_structure(self, **structure: Any) -> ModelSpec:
        """Return a copy that says what the method decided.

        Args:
            structure: Anything that JSON can say.

        Returns:
            A new spec.
        """
        return dataclasses.replace(self, structure=structure)


@dataclass(frozen=True)
class Prediction:
    """What is said of one picture or text.

    Args:
        picture: Its path, or its number; a text itself.
        classes: The likeliest classes, best first.
        probabilities: Their probabilities under the prior that was asked for.
    """

    picture: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


@final
class Predictor(nn.Module):
    """A network, the rule that reads it, and what it needs to take in pictures.

    ``forward`` returns logits under a uniform prior, whatever the method: p(y | x, p) = softmax(scores + log p).
    ``home`` names the prior that the method's own authors predict under: the training prior for plain cross-entropy,
    the uniform one for everything that adjusts for it.

    Args:
        network: Maps (B, 3, H, W) inputs to (B, C) outputs in class order.
        spec: The model but its weights.
        rule: How to read the outputs.
        home: The prior that is used where nobody asks for another.
        tau: Strength of the logit adjustment in training.
    """

    log_prior: Tensor

    def __init__(
        self,
        network: nn.Module,
        spec: ModelSpec,
        *,
        rule: Rule,
        home: Literal["uniform", "train"],
        tau: float = 1.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.spec = spec
        self.rule: Rule = rule
        self.home: Literal["uniform", "train"] = home
        self.tau = tau
        prior = torch.from_numpy(np.asarray(spec.class_counts.prior))
        self.register_buffer("log_prior", prior.log().to(torch.float32))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (B, C) logits under a uniform class prior."""
        return self.scores(self.network(inputs))

    def scores(self, outputs: Tensor) -> Tensor:
        """Read the network's outputs.

        Args:
            outputs: (B, C) outputs of the network.

        Returns:
            (B, C) logits under a uniform class prior.
        """
        return uniform_scores(outputs, self.log_prior, self.rule, self.tau)

    def training_logits(self, outputs: Tensor) -> Tensor | None:
        """Read the outputs as Bernoulli logits under the training prior, which the criterion speaks of.

        Args:
            outputs: (B, C) outputs of the network.

        Returns:
            (B, C) logits, or None for a method whose outputs are no Bernoulli logits.
        """
        if self.rule in ("margin", "posterior"):
            return outputs + self.tau * prior_logit(self.log_prior)
        return None

    def log_weights(self, prior: Prior | None) -> Tensor:
        """Turn a prior into what is added to the scores.

        Args:
            prior: ``uniform``, ``train``, one probability or count per class, or None for the method's own.

        Returns:
            (C,) logarithms.

        Raises:
            InputError: If the prior does not fit the classes.
        """
        prior = self.home if prior is None else prior
        if isinstance(prior, str):
            if prior not in ("uniform", "train"):
                raise InputError(
                    f'prior "{prior}"',
                    expected='"uniform", "train" or one number per class',
                    remedy=nearest(prior, ["uniform", "train"]),
                )
            return self.log_prior if prior == "train" else torch.zeros_like(self.log_prior)
        expected = f"{len(self.spec.classes)} finite numbers > 0, one per class"
        try:
            weights = np.asarray(prior, dtype=np.float64)
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(f"prior: {reason(error)}", expected=expected, remedy=IN_ORDER) from None
        if weights.shape != (len(self.spec.classes),) or not (weights > 0).all() or not np.isfinite(weights).all():
            raise InputError(
                f"prior with shape {weights.shape} and smallest entry {weights.min(initial=np.inf):g}",
                expected=expected,
                remedy=IN_ORDER,
            )
        logs = np.log(weights)
        return torch.from_numpy(logs - np.logaddexp.reduce(logs)).to(self.log_prior)

    @torch.no_grad()
    def predict(
        self,
        images: Sequence[Image.Image | npt.NDArray[np.uint8] | str | Path],
        *,
        prior: Prior | None = None,
        top: int = 1,
        batch_size: int = 64,
    ) -> list[Prediction]:
        """Classify pictures, or texts if the model was trained on texts.

        Args:
            images: Paths, PIL pictures of any mode, or (H, W[, 3]) uint8 arrays. For a model of texts: the texts.
            prior: The class prior to assume: ``uniform``, ``train``, one number per class; None is the method's own.
            top: How many classes to report for each picture.
            batch_size: Pictures at a time.

        Returns:
            One prediction per picture, in order.

        Raises:
            InputError: If it is one picture or text and no list of them.
        """
        if isinstance(images, str | Path):
            raise InputError(f"one picture or text, {str(images)[:40]!r}", expected="a list of them")
        offset = self.log_weights(prior)
        was_training = self.training
        self.eval()
        predictions: list[Prediction] = []
        for first in range(0, len(images), batch_size):
            batch = images[first : first + batch_size]
            inputs = torch.stack([as_input(self.spec.preprocess, image) for image in batch])
            probabilities = torch.softmax(self(inputs.to(offset.device)) + offset, dim=1).cpu()
            best = probabilities.topk(min(top, len(self.spec.classes)), dim=1)
            found = zip(batch, best.values.tolist(), best.indices.tolist(), strict=True)
            for number, (image, values, indices) in enumerate(found, start=first):
                name = str(image) if isinstance(image, str | Path) else str(number)
                predictions.append(Prediction(name, tuple(self.spec.classes[i] for i in indices), tuple(values)))
        self.train(was_training)
        return predictions


def as_input(preprocess: Preprocess | WordPieces, example: Image.Image | npt.NDArray[np.uint8] | str | Path) -> Tensor:
    """Prepare what a user hands over for a model.

    Args:
        preprocess: The model's own.
        example: Whatever stands for a picture; for a model of texts a text.

    Returns:
        The input.

    Raises:
        InputError: If it is no picture, or no text for a model of texts.
    """
    if not isinstance(preprocess, WordPieces):
        return preprocess(as_picture(example))
    if not isinstance(example, str):
        raise InputError(f"a {type(example).__name__} for a model of texts", expected="a text")
    return preprocess(example)


def for_pictures(preprocess: Preprocess | WordPieces) -> Preprocess:
    """Refuse texts, for a method that cannot do without pictures.

    Args:
        preprocess: Of a problem or a model.

    Returns:
        The same.

    Raises:
        InputError: If the inputs are texts.
    """
    if isinstance(preprocess, WordPieces):
        raise InputError(
            "texts, and a method that works on the pixels or places of pictures",
            expected="pictures",
            remedy="choose a method that takes any input, such as osdtw, logit_adjustment or ce",
        )
    return preprocess


def as_picture(image: Image.Image | npt.NDArray[np.uint8] | str | Path) -> Image.Image:
    """Turn whatever stands for a picture into upright 8-bit RGB.

    Args:
        image: A path, a PIL picture of any mode, or an (H, W[, 3]) uint8 array.

    Returns:
        The picture.

    Raises:
        InputError: If a file cannot be read, or an array is none of these.
    """
    if isinstance(image, str | Path):
        return open_loose_picture(Path(image))
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.shape[2:] not in ((), (3,)) or image.ndim not in (2, 3):
            raise InputError(
                f"an array of {image.dtype} with shape {image.shape}",
                expected="uint8 with shape (H, W) or (H, W, 3)",
                remedy="bring the levels to 0..255 and convert it with .astype('uint8')",
            )
        image = Image.fromarray(image)
    return as_rgb(image)


def save_predictor(folder: Path, predictor: Predictor) -> None:
    """Write ``model.safetensors`` and ``model.json``.

    Args:
        folder: Where to; made if it is missing.
        predictor: What to save.
    """
    tensors = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in predictor.state_dict().items()}
    write_atomically(folder / "model.safetensors", lambda part: save_file(tensors, part))
    facts = {"format": FORMAT, **dataclasses.asdict(predictor.spec)}
    write_atomically(folder / "model.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def read_spec(folder: Path) -> ModelSpec:
    """Read what ``model.json`` says.

    Args:
        folder: A ``model`` folder, or the run directory that holds one.

    Returns:
        The spec.

    Raises:
        InputError: If there is no model, or it is not one that this version can read.
    """
    path = model_folder(folder) / "model.json"
    if not os.path.isfile(path):
        _no_model(folder)
    facts = read_json(path, expected="a model description", remedy=AGAIN)
    if not isinstance(facts, dict) or facts.pop("format", None) != FORMAT:
        raise InputError(
            f"{path}: written by another version of forktail, or damaged", expected=f"format {FORMAT}", remedy=AGAIN
        )
    try:
        spec = _spec_of(facts)
    except (ValidationError, ValueError, InputError) as error:
        raise InputError(
            f"{path}: not a model description ({_first(error)})", expected="what `forktail fit` wrote", remedy=AGAIN
        ) from None
    # whatever the file says, a trained model takes no other weights than its own: nothing is downloaded
    return dataclasses.replace(spec, backbone=dataclasses.replace(spec.backbone, weights="random"))


def _spec_of(facts: dict[str, Any]) -> ModelSpec:
    unknown = facts.keys() - {field.name for field in dataclasses.fields(ModelSpec)}
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    spec = TypeAdapter(ModelSpec).validate_python(facts)
    if not len(spec.classes) == spec.class_counts.num_classes == spec.split.num_classes:
        raise ValueError(f"{len(spec.classes)} classes, {len(spec.counts)} counts, tasks {spec.tasks}")
    return spec


def _no_model(folder: Path) -> NoReturn:
    finished = "a finished run or its model folder"
    if not os.path.isdir(folder):
        found = "a file" if os.path.isfile(folder) else "no such folder"
        raise InputError(f"{folder}: {found}", expected=finished, remedy="train one with `forktail fit`")
    if (folder / "recipe.toml").is_file():
        raise InputError(
            f"{folder}: an unfinished run", expected=finished, remedy="give the command that began it again: it goes on"
        )
    raise InputError(f"{folder}: holds no model", expected=finished, remedy="train one with `forktail fit`")


def _first(error: Exception) -> str:
    """Say the first thing that is wrong, and at which key."""
    if not isinstance(error, ValidationError):
        return " ".join(str(error).split())
    problem = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg'].lower()}"


def model_folder(folder: Path) -> Path:
    """Find the model in a run directory, or take the folder as it is.

    Args:
        folder: A ``model`` folder, or the run directory that holds one.

    Returns:
        The folder with ``model.json``.
    """
    return folder / "model" if (folder / "model").is_dir() else folder


def load_weights(predictor: Predictor, folder: Path) -> Predictor:
    """Load ``model.safetensors`` strictly.

    Args:
        predictor: As `Method.build` made it.
        folder: A ``model`` folder, or the run directory that holds one.

    Returns:
        The same predictor, in evaluation mode.

    Raises:
        InputError: If the file is missing, damaged, or does not fit.
    """
    path = model_folder(folder) / "model.safetensors"
    try:
        with safetensors.safe_open(path, framework="pt") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: {reason(error)}", expected="the model's weights", remedy=AGAIN) from None
    try:
        predictor.load_state_dict(tensors)
    except RuntimeError as error:
        found = f"{path}: does not fit its model.json ({' '.join(str(error).split())[:200]})"
        raise InputError(found, expected="weights and description of one model", remedy=AGAIN) from None
    broken = next((name for name, value in tensors.items() if not torch.isfinite(value).all()), None)
    if broken:
        raise InputError(f"{path}: {broken} holds numbers that are not finite", expected="finite weights", remedy=AGAIN)
    return predictor.eval()
