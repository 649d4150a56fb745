"""Which call uses which parameter, and which dimension of what goes in and out counts the images.

A network is a tree of calls of its modules. Two runs, of one image and of the same image twice, tell it all: what
doubles belongs to images, what stays belongs to the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from forktail.errors import InputError
from forktail.fisher.rules import Rule, rule_of


@dataclass(frozen=True)
class Leaf:
    """One tensor or constant among what goes into a call or comes out of it.

    Args:
        dim: The dimension that counts images; None where a tensor is the same for any number of images.
        is_tensor: Whether it is a tensor.
        depends: Whether a parameter stands behind it, so that it has a gradient.
        overwritten: Whether something is later written into it.
        alone: The constant as it is for a single image, if it depends on the number of images.
    """

    dim: int | None = None
    is_tensor: bool = False
    depends: bool = False
    overwritten: bool = False
    alone: tuple[Any, ...] = ()

    def by_image(self, tensor: Tensor, num_images: int) -> Tensor:
        """Bring a tensor of B images into the shape ``(B, m, ...)``, m rows of its own for each image."""
        assert self.dim is not None
        moved = tensor.movedim(self.dim, 0)
        return moved.reshape(num_images, -1, *moved.shape[1:])


@dataclass(eq=False)
class Call:
    """One call of one module.

    Args:
        index: Its number, in the order in which calls begin.
        module: The module.
        name: Its name in the network.
        parent: The call inside which it happens.
        inputs: Leaves of ``(args, kwargs)``.
        outputs: Leaves of what it returns.
        uses: Names of the parameters that its own code reads, calls inside it apart.
        wanted: Names of the parameters that this call accounts for.
        rule: The formula for them; None is the generic way.
        inside: Calls that the generic way meets when it runs this module again, in order.
    """

    index: int
    module: nn.Module
    name: str
    parent: Call | None
    inputs: list[Leaf] = field(default_factory=list)
    outputs: list[Leaf] = field(default_factory=list)
    uses: set[str] = field(default_factory=set)
    wanted: list[str] = field(default_factory=list)
    rule: Rule | None = None
    inside: list[Call] = field(default_factory=list)

    @cached_property
    def is_transparent(self) -> bool:
        """Whether its gradients are not separate by image, so that the call round it has to account for it."""
        mixed = any(leaf.is_tensor and leaf.dim is None and leaf.depends for leaf in [*self.inputs, *self.outputs])
        return mixed or all(leaf.dim is None for leaf in self.outputs)

    @cached_property
    def owner(self) -> Call | None:
        """The call that accounts for what its code does: itself, or the nearest round it that is not transparent."""
        return self.region if self.is_transparent else self

    @cached_property
    def region(self) -> Call | None:
        """The nearest call round it that is not transparent."""
        return None if self.parent is None else self.parent.owner

    @cached_property
    def stands_in(self) -> bool:
        """Whether what it returns is put in its place when the module round it is run again."""
        return self.region is not None and self.region.is_generic and not self.is_transparent

    @property
    def is_generic(self) -> bool:
        """Whether its module is run again for the sake of its own parameters."""
        return bool(self.wanted) and self.rule is None

    @property
    def is_simple(self) -> bool:
        """Whether all that its generic way needs is known as soon as the gradient at its one output is."""
        return not self.inside and len(self.outputs) == 1


Names = dict[int, str]


def trace(network: nn.Module, inputs: Any, names: Names, *, rules: bool = True) -> list[Call]:
    """Run a network on one image and on the same image twice, and compare.

    Args:
        network: In evaluation mode.
        inputs: A tensor or a nest of tensors, each with images as first dimension; the first image is used.
        names: By ``id``, the parameters that are wanted.
        rules: Whether formulas may be used; otherwise every module takes the generic way.

    Returns:
        All calls, in the order in which they begin.

    Raises:
        InputError: If a run of two images makes other calls than a run of one, or a parameter is used where images
            cannot be told apart.
    """
    alone = pytree.tree_map(lambda values: values[:1], inputs)
    twice = pytree.tree_map(lambda values: values[:1].repeat_interleave(2, 0), inputs)
    ones, twos = _run(network, alone, names), _run(network, twice, names)
    if [run.module for run in ones] != [run.module for run in twos]:
        raise InputError(
            "a network that makes other calls for two images than for one", expected="the same modules in order"
        )
    calls: list[Call] = []
    for one, two in zip(ones, twos, strict=True):
        call = Call(len(calls), one.module, one.name, None if one.parent is None else calls[one.parent])
        call.inputs = [_leaf(a, b, call) for a, b in zip(one.inputs, two.inputs, strict=True)]
        call.outputs = [_leaf(a, b, call) for a, b in zip(one.outputs, two.outputs, strict=True)]
        call.uses = one.uses
        calls.append(call)
    _assign(calls, rules)
    return calls


def _assign(calls: list[Call], rules: bool) -> None:
    """Find for each use of a parameter the call that accounts for it, and how."""
    for call in calls:
        if call.uses:
            owner = call.owner
            if owner is None:
                raise InputError(
                    f"{min(call.uses)} acts on all images together", expected="outputs that count images in a dimension"
                )
            owner.wanted = sorted({*owner.wanted, *call.uses})
        region = call.region
        if region is not None:
            region.inside.append(call)
    for call in calls:
        own = {id(p) for p in call.module.parameters(recurse=False) if p.requires_grad}
        fits = call.wanted and not call.inside and len(call.wanted) == len(own) and _is_plain(call)
        if rules and fits and set(call.wanted) == call.uses:
            call.rule = rule_of(call.module)


def _is_plain(call: Call) -> bool:
    """Say whether a call is one tensor of images in, one out."""
    single = len(call.inputs) == len(call.outputs) == 1
    return single and call.inputs[0].dim is not None and call.outputs[0].dim is not None


@dataclass(eq=False)
class _Seen:
    """A leaf of one run: kept alive to see whether it is written into."""

    value: Any
    shape: torch.Size | None
    version: int

    @classmethod
    def of(cls, value: Any) -> _Seen:
        is_tensor = isinstance(value, Tensor)
        return cls(value, value.shape if is_tensor else None, value._version if is_tensor else 0)


@dataclass(eq=False)
class _Run:
    module: nn.Module
    name: str
    parent: int | None
    inputs: list[_Seen]
    outputs: list[_Seen] = field(default_factory=list)
    uses: set[str] = field(default_factory=set)


def _run(network: nn.Module, inputs: Any, names: Names) -> list[_Run]:
    runs: list[_Run] = []
    stack: list[int] = []
    paths = {module: name for name, module in network.named_modules()}

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        leaves = [_Seen.of(leaf) for leaf in pytree.tree_leaves((args, kwargs))]
        runs.append(_Run(module, paths[module], stack[-1] if stack else None, leaves))
        stack.append(len(runs) - 1)

    def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        runs[stack.pop()].outputs = [_Seen.of(leaf) for leaf in pytree.tree_leaves(output)]

    def use(name: str) -> None:
        runs[stack[-1]].uses.add(name)

    with torch.enable_grad(), hooked(network, enter, leave), _Watch(names, use):
        network(inputs)
    return runs


class _Watch(TorchFunctionMode):
    """Report every function that turns a wanted parameter into something with a gradient."""

    def __init__(self, names: Names, use: Callable[[str], None]) -> None:
        super().__init__()
        self.names, self.use = names, use

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        read = {self.names[id(leaf)] for leaf in pytree.tree_leaves((args, kwargs)) if id(leaf) in self.names}
        if read and any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in pytree.tree_leaves(result)):
            for name in read:
                self.use(name)
        return result


def _leaf(one: _Seen, two: _Seen, call: Call) -> Leaf:
    if not isinstance(one.value, Tensor) or one.shape is None or two.shape is None:
        counts = isinstance(one.value, int | float | tuple) and one.value != two.value
        return Leaf(alone=(one.value,) if counts else ())
    if len(one.shape) != len(two.shape):
        raise InputError(
            f"{call.name or 'the network'} drops a dimension for a single image", expected="as many for any number"
        )
    doubled = [dim for dim, (a, b) in enumerate(zip(one.shape, two.shape, strict=True)) if b == 2 * a and a > 0]
    return Leaf(
        dim=doubled[0] if doubled else None,
        is_tensor=True,
        depends=one.value.requires_grad,
        overwritten=one.value._version != one.version,
    )


@contextmanager
def hooked(network: nn.Module, enter: Callable[..., Any], leave: Callable[..., Any]) -> Iterator[None]:
    """Call ``enter`` before and ``leave`` after every call of every module.

    Args:
        network: The network.
        enter: A forward pre-hook, which runs before a module's other ones.
        leave: A forward hook, which runs after them.
    """
    handles = []
    try:
        for module in network.modules():
            handles.append(module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True))
            handles.append(module.register_forward_hook(leave, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()
