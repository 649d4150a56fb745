"""The Fisher diagonal of a vision transformer: time, memory, completeness and error, beside other libraries.

    python benchmarks/fisher.py                 # all ways that are installed -> benchmarks/results/fisher.json
    python benchmarks/fisher.py --base 64 --repeats 0    # ViT-B/16, 224 pixels, 1,000 outputs: this library alone

Each way runs in a process of its own. Memory is the process's peak during its first run, above what it held before.
Time is taken in turns with a plain forward and backward pass in the same process; the ratio is that of the fastest
runs. Squares are compared with those of a loop over images in double precision, tensor by tensor: the largest
difference over the tensor's largest entry. The loss is cross-entropy, which every library knows. Others are optional:
pip install opacus backpack-for-pytorch curvlinops-for-pytorch laplace-torch nngeometry
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from timm.models.vision_transformer import VisionTransformer

from forktail.fisher.accumulate import Totals
from forktail.fisher.capture import Capture
from forktail.fisher.diagonal import fisher
from forktail.fisher.gather import Gathering, Slot, gradient_at
from forktail.fisher.reference import per_image_gradients
from forktail.fisher.sources import matrix_shape
from forktail.losses.cross_entropy import CrossEntropy

RESULT = Path(__file__).parent / "results" / "fisher.json"
SIZES = {
    "small": {"embed_dim": 384, "depth": 4, "num_heads": 6, "num_classes": 100, "reg_tokens": 1, "init_values": 0.1},
    "base": {"embed_dim": 768, "depth": 12, "num_heads": 12, "num_classes": 1000},
}


class Task:
    """A network at random parameters, images and labels."""

    def __init__(self, size, num_images):
        torch.manual_seed(0)
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
        self.network = VisionTransformer(img_size=224, patch_size=16, **SIZES[size]).eval()
        self.images = torch.randn(num_images, 3, 224, 224)
        self.labels = torch.randint(SIZES[size]["num_classes"], (num_images,))
        self.loss = CrossEntropy()

    def named(self, values):
        return {name: values(p) for name, p in self.network.named_parameters() if values(p) is not None}


def plain(task):
    task.network.zero_grad(set_to_none=True)
    torch.autograd.backward(task.loss(task.network(task.images), task.labels).sum())


def in_plain_batches(task):
    task.network.zero_grad(set_to_none=True)
    for images, labels in zip(task.images.split(8), task.labels.split(8), strict=True):
        torch.autograd.backward(task.loss(task.network(images), labels).sum())


def forktail(task):
    """The whole call: trace, check of two images, pass."""
    return fisher(task.network, task.loss, [(task.images, task.labels)]).sums


class Steady:
    """What each further batch costs: the pass alone."""

    def __init__(self):
        self.gathering = None

    def __call__(self, task):
        if self.gathering is None:
            self.totals = {
                name: Totals({}, weighted=[torch.zeros(matrix_shape(p.shape, batched=False), dtype=torch.float64)])
                for name, p in task.network.named_parameters()
            }
            slots = [Slot([(0, name)], [total]) for name, total in self.totals.items()]
            self.gathering = Gathering([Capture(task.network)], slots)
        weights = torch.ones(len(task.images), dtype=torch.float64)
        self.gathering.add(task.images, [lambda logits: [gradient_at(task.loss, logits, task.labels)]], weights)
        return {name: self.totals[name].weighted[0].view_as(p) for name, p in task.network.named_parameters()}


def in_batches(task):
    """Many images, 8 at a time."""
    return fisher(task.network, task.loss, zip(task.images.split(8), task.labels.split(8), strict=True)).sums


class TwoTasks:
    """Squares of two networks and products between them, as the criterion needs them; each further batch."""

    def __init__(self):
        self.gathering = None

    def __call__(self, task):
        names = [name for name, _ in task.network.named_parameters()]
        if self.gathering is None:
            pairs = ((0, 0), (0, 1), (1, 1))
            shapes = {name: matrix_shape(p.shape, batched=False) for name, p in task.network.named_parameters()}
            self.totals = [Totals({pair: torch.zeros(shapes[n], dtype=torch.float64) for pair in pairs}) for n in names]
            slots = [Slot([(0, n), (1, n)], [total]) for n, total in zip(names, self.totals, strict=True)]
            self.gathering = Gathering([Capture(task.network), Capture(copy.deepcopy(task.network))], slots)
        self.gathering.add(task.images, [lambda logits: [gradient_at(task.loss, logits, task.labels)]] * 2, None)
        found = zip(task.network.named_parameters(), self.totals, strict=True)
        return {name: total.products[0, 1].view_as(p) for (name, p), total in found}


def loop(task):
    sums = task.named(torch.zeros_like)
    for image, label in zip(task.images, task.labels, strict=True):
        value = task.loss(task.network(image[None]), label[None]).sum()
        gradients = torch.autograd.grad(value, list(task.network.parameters()))
        for total, gradient in zip(sums.values(), gradients, strict=True):
            total += gradient.square()
    return sums


def torch_func(task):
    one_hot = torch.nn.functional.one_hot(task.labels, task.network.num_classes).float()
    found = per_image_gradients(task.network, task.loss, task.images, one_hot)
    return {name: values.square().sum(0) for name, values in found.items()}


def opacus(task):
    from opacus import GradSampleModule

    network = GradSampleModule(task.network, strict=False, loss_reduction="sum")
    try:
        torch.autograd.backward(task.loss(network(task.images), task.labels).sum())
        return task.named(lambda p: None if getattr(p, "grad_sample", None) is None else p.grad_sample.square().sum(0))
    finally:
        network.to_standard_module()


def backpack(task):
    import backpack as library
    from backpack.extensions import SumGradSquared

    network = library.extend(task.network)
    loss = library.extend(torch.nn.CrossEntropyLoss(reduction="sum"))
    with library.backpack(SumGradSquared()):
        torch.autograd.backward(loss(network(task.images), task.labels))
    return task.named(lambda p: getattr(p, "sum_grad_squared", None))


def curvlinops(_task):
    import curvlinops as library

    assert hasattr(library, "EFLinearOperator")
    raise NotImplementedError("has the empirical Fisher as an operator and diagonals estimated by probes, none exact")


def laplace(task):
    from laplace.curvature import CurvlinopsEF

    _, diagonal = CurvlinopsEF(task.network, "classification").diag(task.images, task.labels)
    sizes = [p.numel() for p in task.network.parameters()]
    parts = diagonal.split(sizes)
    return {name: part.view_as(p) for (name, p), part in zip(task.network.named_parameters(), parts, strict=True)}


def nngeometry(task):
    from nngeometry.backend import TorchHooksJacobianBackend
    from nngeometry.layercollection import LayerCollection
    from nngeometry.object import PMatDiag

    def losses(images, labels):
        return task.loss(task.network(images), labels)[:, None]

    layers = LayerCollection.from_model(task.network, ignore_unsupported_layers=True)
    generator = TorchHooksJacobianBackend(model=task.network, function=losses, layer_collection=layers)
    data = torch.utils.data.TensorDataset(task.images, task.labels)
    loader = torch.utils.data.DataLoader(data, batch_size=len(data))
    found = PMatDiag(generator=generator, examples=loader).get_diag() * len(data)
    modules, sums, first = dict(task.network.named_modules()), {}, 0
    for key, layer in layers.layers.items():
        name = next(name for name in modules if name == layer.name or key.startswith(name + ".") or key == name)
        for part in ("weight", "bias"):
            p = getattr(modules[name], part, None)
            if p is not None and (part == "weight" or getattr(layer, "bias", None) is not None):
                sums[f"{name}.{part}"] = found[first : first + p.numel()].view_as(p)
                first += p.numel()
    return sums


WAYS = {
    "plain step": plain,
    "forktail": forktail,
    "forktail, each further batch": Steady(),
    "forktail, two tasks and products": TwoTasks(),
    "forktail, batches of 8": in_batches,
    "loop": loop,
    "torch.func": torch_func,
    "opacus": opacus,
    "backpack": backpack,
    "curvlinops": curvlinops,
    "laplace": laplace,
    "nngeometry": nngeometry,
}
PACKAGES = {
    "torch.func": "torch",
    "opacus": "opacus",
    "backpack": "backpack-for-pytorch",
    "curvlinops": "curvlinops-for-pytorch",
    "laplace": "laplace-torch",
    "nngeometry": "nngeometry",
}


def measure(name, size, num_images, repeats):
    """Run one way in this process; what fails is recorded with its reason."""
    warnings.simplefilter("ignore")
    task, way = Task(size, num_images), WAYS[name]
    before = _now_in_memory()
    start = time.perf_counter()
    try:
        found = way(task)
    except Exception as error:  # whatever another library raises is the finding
        return {"fails": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160] if str(error) else ''}"}
    first = time.perf_counter() - start
    row = {"peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before)}
    if found is not None and size == "small":
        row |= _compare(task, found)
    if repeats == 0:
        return row | {"seconds": round(first, 3), "images_per_second": round(num_images / first, 2)}
    step = in_plain_batches if way is in_batches else plain
    pairs = [(_seconds(lambda: step(task)), _seconds(lambda: way(task))) for _ in range(repeats)]
    base, own = (min(times) for times in zip(*pairs, strict=True))
    row |= {
        "seconds": round(own, 3),
        "images_per_second": round(num_images / own, 2),
        "ratio": round(own / base, 3),
        "ratio_median": round(statistics.median(b / a for a, b in pairs), 3),
    }
    return row


def _compare(task, found):
    task.network.requires_grad_(True).double()
    task.images, given = task.images.double(), task.images
    expected = loop(task)
    task.network.float()
    task.images = given
    errors = {
        name: float((found[name].double() - values).abs().max() / values.max())
        for name, values in expected.items()
        if name in found
    }
    right = [error for error in errors.values() if error < 1e-2]
    return {
        "tensors": len(expected), "tensors_returned": len(errors), "tensors_right": len(right),
        "largest_error": float(f"{max(errors.values(), default=float('nan')):.2e}"),
    }  # fmt: skip


def _seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _now_in_memory():
    """Megabytes of this process, where the system tells; else its peak so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def machine():
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return {
        "processor": model, "cores": os.cpu_count(), "threads": int(os.environ.get("OMP_NUM_THREADS", "2")),
        "system": platform.system(), "python": platform.python_version(), "torch": torch.__version__,
        "load_average": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def parameters(size):
    with torch.device("meta"):
        network = VisionTransformer(img_size=224, patch_size=16, **SIZES[size])
    return sum(p.numel() for p in network.parameters())


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--images", type=int, default=16)
    options.add_argument("--repeats", type=int, default=3, help="0: the first run alone, without a plain step beside")
    options.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    options.add_argument("--base", type=int, metavar="IMAGES", help="ViT-B/16 with so many images instead")
    options.add_argument("--measure", help=argparse.SUPPRESS)
    given = options.parse_args()
    size, num_images = ("base", given.base) if given.base else ("small", given.images)
    if given.measure:
        print(json.dumps(measure(given.measure, size, num_images, given.repeats)))
        return
    ways = ["forktail, batches of 8"] if given.base else given.ways
    rows = {}
    for name in ways:
        command = [sys.executable, __file__, "--measure", name, "--repeats", str(given.repeats)]
        command += ["--base", str(given.base)] if given.base else ["--images", str(num_images)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = done.stdout.strip().splitlines()
        rows[name] = json.loads(lines[-1]) if done.returncode == 0 and lines else {"fails": _last(done.stderr)}
        if name in PACKAGES:
            try:
                rows[name] = {"version": version(PACKAGES[name])} | rows[name]
            except PackageNotFoundError:
                rows[name] = {"fails": "not installed"}
        print(f"{name:30}", rows[name], flush=True)
        keep(size, num_images, rows)


def keep(size, num_images, rows):
    """Write after every way, beside what other runs of the same size found."""
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    earlier = known.get(size, {}).get("ways", {}) if known.get(size, {}).get("images") == num_images else {}
    known[size] = {
        "network": SIZES[size], "parameters": parameters(size), "images": num_images, "machine": machine(),
        "ways": earlier | rows,
    }  # fmt: skip
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(known, indent=2) + "\n")


def _last(text):
    lines = text.strip().splitlines()
    return lines[-1][:160] if lines else "killed"


if __name__ == "__main__":
    main()
