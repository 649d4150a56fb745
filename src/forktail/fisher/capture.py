"""One forward and backward pass of a network, and the sources of every parameter's per-image gradients.

During the pass the parameters themselves take no gradient. Each module that has parameters leaves its input and the
gradient at its output; a formula turns them into a source, or, for all other modules, the generic way: the module's
own code is run again, image by image under ``vmap``, with what the modules inside it returned put in their place. Its
gradients are then exact, because the gradients at the inputs of these modules are known, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from forktail.errors import InputError
from forktail.fisher.sources import Computed, Dense, Source
from forktail.fisher.trace import Call, Leaf, Names, hooked, trace

# Entries of per-image gradients that the generic way computes at once.
GENERIC_ENTRIES = 2**22

Emit = Callable[[str, Source], None]


@dataclass(eq=False)
class _Record:
    """What one call leaves behind for the generic way."""

    call: Call
    inputs: list[Any]
    structure: Any
    given: dict[int, list[Any]] = field(default_factory=dict)  # by call inside: what it returned
    returned: dict[int, Any] = field(default_factory=dict)  # its structure
    reached: dict[tuple[int, int], Tensor] = field(default_factory=dict)  # by call, leaf: gradient at its input
    outputs: dict[int, Tensor] = field(default_factory=dict)  # by leaf: gradient at the call's own output


class Capture:
    """Takes the gradients of one network apart, image by image.

    Args:
        network: In evaluation mode, while `watching`.
        rules: Whether formulas may be used; otherwise every module takes the generic way.

    Raises:
        InputError: If no parameter is trainable.
    """

    def __init__(self, network: nn.Module, *, rules: bool = True) -> None:
        self.network, self.rules = network, rules
        self.parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise InputError("a network without trainable parameters", expected="at least one")
        self.names: Names = {id(parameter): name for name, parameter in self.parameters.items()}
        places: dict[str, list[tuple[nn.Module, str]]] = {name: [] for name in self.parameters}
        for module in network.modules():
            for attribute, parameter in module._parameters.items():
                if id(parameter) in self.names:
                    places[self.names[id(parameter)]].append((module, attribute))
        self.places = places
        self._plans: dict[Any, list[Call]] = {}
        self._calls: list[Call] = []
        self._active = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hold hooks on the network, and take the gradients off its parameters."""
        try:
            self._train(False)
            with hooked(self.network, self._enter, self._leave):
                yield
        finally:
            self._active = False
            self._train(True)

    @contextmanager
    def trainable(self) -> Iterator[None]:
        """Give the parameters their gradients back for a while."""
        self._train(True)
        try:
            yield
        finally:
            self._train(False)

    def _train(self, trains: bool) -> None:
        for parameter in self.parameters.values():
            parameter.requires_grad_(trains)

    def uses(self) -> dict[str, int]:
        """Count how many sources each parameter has in the latest pass."""
        counts = dict.fromkeys(self.parameters, 0)
        for call in self._calls:
            for name in call.wanted:
                counts[name] += 1
        return counts

    def forward(self, inputs: Any) -> Tensor:
        """Run the network.

        Args:
            inputs: A tensor or a nest of tensors, each with images as first dimension.

        Returns:
            What the network returns.

        Raises:
            InputError: If the network makes other calls than it did for a single image.
        """
        leaves = pytree.tree_leaves(inputs)
        self._num_images = len(leaves[0])
        signature = tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves)
        if signature not in self._plans:
            with self.trainable():
                self._plans[signature] = trace(self.network, inputs, self.names, rules=self.rules)
        self._calls = self._plans[signature]
        self._position, self._stack = 0, list[Call]()
        self._records: dict[int, _Record] = {}
        self._anchors: list[Tensor] = []
        self._active = True
        with torch.enable_grad():
            outputs: Tensor = self.network(inputs)
        self._active = False
        if self._position != len(self._calls):
            raise self._other_calls()
        return outputs

    def apart(self, outputs: Tensor, gradient: Tensor, emit: Emit, *, again: bool = False) -> None:
        """Go back from the outputs and hand over the sources of every parameter that is reached.

        Args:
            outputs: What `forward` returned.
            gradient: Of the sum of all images' losses with respect to it.
            emit: Takes a parameter's name and one source; called once per use of the parameter.
            again: Whether another call for the same forward pass will follow.
        """
        self._emit, self._again = emit, again
        if outputs.requires_grad:
            torch.autograd.grad(outputs, self._anchors, gradient, retain_graph=again, allow_unused=True)
        for record in list(self._records.values()):
            self._finish(record)
        if not again:
            self._records, self._anchors = {}, []

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        if not self._active:
            return None
        if self._position == len(self._calls) or self._calls[self._position].module is not module:
            raise self._other_calls()
        call = self._calls[self._position]
        self._position += 1
        self._stack.append(call)
        if not (call.stands_in or call.is_generic):
            return None
        leaves, structure = pytree.tree_flatten((args, kwargs))
        if call.stands_in:
            assert call.region is not None
            record = self._records[call.region.index]
            for number, leaf in enumerate(call.inputs):
                if leaf.depends:
                    leaves[number] = self._alias(leaves[number], leaf)
                    leaves[number].register_hook(_keep(record.reached, (call.index, number)))
        if call.is_generic:
            saved = [_saved(value, leaf) for value, leaf in zip(leaves, call.inputs, strict=True)]
            self._records[call.index] = _Record(call, saved, structure)
        return pytree.tree_unflatten(leaves, structure)

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        if not self._active:
            return None
        call = self._stack.pop()
        if call.rule is None and not (call.stands_in or call.is_generic):
            return None
        leaves, structure = pytree.tree_flatten(output)
        if call.rule is not None:
            (value,) = pytree.tree_leaves((args, kwargs))
            leaves[0] = self._with_gradient(leaves[0])
            leaves[0].register_hook(self._apply_rule(call, _saved(value, call.inputs[0])))
        if call.is_generic:
            record = self._records[call.index]
            for number, leaf in enumerate(call.outputs):
                if leaf.depends:
                    leaves[number] = self._alias(leaves[number], leaf)
                    leaves[number].register_hook(_keep(record.outputs, number))
                    if call.is_simple:
                        leaves[number].register_hook(self._finish_early(record))
        if call.stands_in:
            assert call.region is not None
            record = self._records[call.region.index]
            record.given[call.index] = [_saved(value, leaf) for value, leaf in zip(leaves, call.outputs, strict=True)]
            record.returned[call.index] = structure
        return pytree.tree_unflatten(leaves, structure)

    def _finish_early(self, record: _Record) -> Callable[[Tensor], None]:
        """Use what is known and forget it, so that it is not held to the end of the pass."""

        def hook(_: Tensor) -> None:
            self._finish(record)
            if not self._again:
                record.inputs = []

        return hook

    def _finish(self, record: _Record) -> None:
        if record.outputs or record.reached:
            for name, source in self._generic(record):
                self._emit(name, source)
        record.outputs.clear()
        record.reached.clear()

    def _apply_rule(self, call: Call, inputs: Tensor) -> Callable[[Tensor], None]:
        held = [inputs]

        def hook(gradient: Tensor) -> None:
            assert call.rule is not None
            with torch.no_grad():
                known = call.inputs[0].by_image(held[0], self._num_images)
                sources = call.rule(call.module, known, call.outputs[0].by_image(gradient, self._num_images))
                if not self._again:  # as backpropagation forgets what it has used
                    held.clear()
                for name in call.wanted:
                    self._emit(name, sources[self._attribute(call.module, name)])

        return hook

    def _attribute(self, module: nn.Module, name: str) -> str:
        return next(attribute for owner, attribute in self.places[name] if owner is module)

    def _with_gradient(self, value: Tensor) -> Tensor:
        """Make backpropagation come by here, also where nothing trainable stands before."""
        if value.requires_grad:
            return value
        anchor = value.detach().requires_grad_()
        self._anchors.append(anchor)
        return anchor.clone()  # a leaf could not be written into

    def _alias(self, value: Tensor, leaf: Leaf) -> Tensor:
        """Name a tensor a second time, so that what is reached through this name has a gradient of its own."""
        known = self._with_gradient(value)
        return known.clone() if leaf.overwritten else known.view_as(known)

    def _other_calls(self) -> InputError:
        return InputError(
            "a network that makes other calls for many images than for one", expected="the same modules in order"
        )

    def _generic(self, record: _Record) -> Iterator[tuple[str, Source]]:
        """Hold small gradients of all images; compute large ones a few images at a time, when asked for."""
        call, num_images = record.call, self._num_images
        small = [n for n in call.wanted if num_images * self.parameters[n].numel() <= GENERIC_ENTRIES]
        if small:
            found = self._run_again(record, small, slice(0, num_images))
            yield from ((name, Dense(found[name])) for name in small)
        frozen = _Record(**{**vars(record), "reached": dict(record.reached), "outputs": dict(record.outputs)})
        for name in call.wanted:
            if name not in small:

                def compute(images: slice, name: str = name) -> Tensor:
                    return self._run_again(frozen, [name], images)[name]

                yield name, Computed(self.parameters[name].shape, compute)

    def _run_again(self, record: _Record, names: Sequence[str], images: slice) -> dict[str, Tensor]:
        """Compute the gradients of some images with respect to parameters that one module's own code uses."""
        call = record.call
        data = {
            "inputs": [self._part(value, leaf, images) for value, leaf in zip(record.inputs, call.inputs, strict=True)],
            "given": {
                inner.index: [
                    self._part(value, leaf, images)
                    for value, leaf in zip(record.given[inner.index], inner.outputs, strict=True)
                ]
                for inner in call.inside
                if inner.index in record.given
            },
            "outputs": {
                number: self._part(value, call.outputs[number], images) for number, value in record.outputs.items()
            },
            "reached": {
                place: self._part(value, self._calls[place[0]].inputs[place[1]], images)
                for place, value in record.reached.items()
            },
        }
        values, structure = pytree.tree_flatten(data)
        batched = [isinstance(value, _Part) for value in values]

        def weighed(parameters: dict[str, Tensor], *parts: Tensor) -> Tensor:
            rest = iter(parts)
            own = [next(rest) if batch else value for batch, value in zip(batched, values, strict=True)]
            return self._inner_product(record, parameters, pytree.tree_unflatten(own, structure))

        parameters = {name: self.parameters[name].detach() for name in names}
        tensors = [value.rows for value in values if isinstance(value, _Part)]
        # The fused attention kernels have no rule for vmap and would run image by image.
        with sdpa_kernel(SDPBackend.MATH):
            found: dict[str, Tensor] = vmap(grad(weighed), in_dims=(None, *[0] * len(tensors)))(parameters, *tensors)
        return found

    def _part(self, value: Any, leaf: Leaf, images: slice) -> Any:
        if leaf.dim is None or not isinstance(value, Tensor):
            return leaf.alone[0] if leaf.alone else value
        moved = value.movedim(leaf.dim, 0)
        rows = moved.reshape(self._num_images, -1, *moved.shape[1:])[images]
        return _Part(rows.movedim(1, leaf.dim + 1))

    def _inner_product(self, record: _Record, parameters: dict[str, Tensor], data: dict[str, Any]) -> Tensor:
        """Multiply what the module's code makes of the parameters with the gradients that are known there."""
        call = record.call
        terms: list[Tensor] = []
        expected = iter(call.inside)

        def stand_in(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            inner = next(expected)
            if inner.index not in record.given:
                return type(module).forward(module, *args, **kwargs)
            for number, leaf in enumerate(pytree.tree_leaves((args, kwargs))):
                gradient = data["reached"].get((inner.index, number))
                if gradient is not None:
                    terms.append((gradient * leaf).sum())
            return pytree.tree_unflatten(data["given"][inner.index], record.returned[inner.index])

        args, kwargs = pytree.tree_unflatten(data["inputs"], record.structure)
        shadows: list[tuple[nn.Module, str, Any]] = [
            (inner.module, "forward", _bound(stand_in, inner.module)) for inner in call.inside
        ]
        shadows += [(*place, value) for name, value in parameters.items() for place in self.places[name]]
        with _shadowed(shadows):
            leaves = pytree.tree_leaves(call.module(*args, **kwargs))
        terms += [(gradient * leaves[number]).sum() for number, gradient in data["outputs"].items()]
        return torch.stack(terms).sum()


class _Part:
    """Rows of some images, images first: told apart from what is the same for all images."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows


def _keep(where: dict[Any, Tensor], place: Any) -> Callable[[Tensor], None]:
    def hook(gradient: Tensor) -> None:
        where[place] = gradient

    return hook


def _saved(value: Any, leaf: Leaf) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.detach().clone() if leaf.overwritten else value.detach()


def _bound(function: Callable[..., Any], module: nn.Module) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        return function(module, *args, **kwargs)

    return forward


@contextmanager
def _shadowed(shadows: Sequence[tuple[nn.Module, str, Any]]) -> Iterator[None]:
    """Put values before attributes of modules, which are found again afterwards."""
    before = [(module, name, module.__dict__[name]) for module, name, _ in shadows if name in module.__dict__]
    try:
        for module, name, value in shadows:
            module.__dict__[name] = value
        yield
    finally:
        for module, name, _ in shadows:
            module.__dict__.pop(name, None)
        for module, name, value in before:
            module.__dict__[name] = value


__all__ = ["Capture", "Emit"]
