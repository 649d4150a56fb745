"""The few kinds of modules whose per-image gradients have a formula; every other kind takes the generic way.

Legend: B images, m rows of a module's input per image (windows; mostly 1), T tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.layers.norm import LayerNorm as TimmLayerNorm
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

from forktail.fisher.sources import Computed, Dense, Outer, Rows, Source

# Module, its input (B, m, ...) and the gradient at its output (B, m, ...) to the sources of its own parameters.
Rule = Callable[[Any, Tensor, Tensor], dict[str, Source]]


def rule_of(module: nn.Module) -> Rule | None:
    """Find the formula of a module.

    Args:
        module: Of exactly one of the known types: a subclass may compute something else.

    Returns:
        Its rule, or None.

    Example:
        >>> rule_of(nn.Linear(2, 2)) is not None, rule_of(nn.PReLU()) is None
        (True, True)
    """
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and (
        module.padding_mode != "zeros" or isinstance(module.padding, str)
    ):
        return None
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) and module.running_mean is None:
        return None
    if isinstance(module, nn.Embedding) and (module.scale_grad_by_freq or module.max_norm is not None):
        return None
    return _RULES.get(type(module))


def _linear(module: nn.Linear, inputs: Tensor, outputs: Tensor) -> dict[str, Source]:
    g, a = (values.reshape(len(values), -1, values.shape[-1]) for values in (outputs, inputs))
    return {"weight": Outer(g, a)} | _bias(module, g.sum(1))


def _convolution(module: nn.Conv2d, inputs: Tensor, outputs: Tensor) -> dict[str, Source]:
    compute: Any = {1: conv1d_weight, 2: conv2d_weight, 3: conv3d_weight}[module.weight.ndim - 2]
    shape = module.weight.shape

    def gradients(images: slice) -> Tensor:
        each = [
            compute(a, shape, g, module.stride, module.padding, module.dilation, module.groups)
            for a, g in zip(inputs[images], outputs[images], strict=True)
        ]
        return torch.stack(each)

    if _is_patch_embedding(module, inputs):
        side = module.kernel_size
        patches = F.unfold(inputs.flatten(0, 1), side, stride=side).transpose(1, 2)
        g = outputs.flatten(3).transpose(2, 3)
        weight: Source = Outer(g.reshape(len(g), -1, g.shape[-1]), patches.reshape(len(g), -1, patches.shape[-1]))
    else:
        weight = Computed(shape, gradients)
    return {"weight": weight} | _bias(module, outputs.transpose(1, 2).flatten(2).sum(2))


def _is_patch_embedding(module: nn.Conv2d, inputs: Tensor) -> bool:
    """Say whether the kernel's positions do not overlap: a linear map of patches."""
    return (
        type(module) is nn.Conv2d
        and module.kernel_size == module.stride
        and module.groups == 1
        and set(module.padding) == {0}
        and set(module.dilation) == {1}
        and all(size % side == 0 for size, side in zip(inputs.shape[-2:], module.kernel_size, strict=True))
    )


def _layer_norm(module: nn.LayerNorm, inputs: Tensor, outputs: Tensor) -> dict[str, Source]:
    normed = F.layer_norm(inputs, module.normalized_shape, eps=module.eps)
    others = tuple(range(1, inputs.ndim - len(module.normalized_shape)))
    return _affine(module, normed, outputs, others)


def _batch_norm(module: nn.BatchNorm2d, inputs: Tensor, outputs: Tensor) -> dict[str, Source]:
    rows = inputs.flatten(0, 1)
    normed = F.batch_norm(rows, module.running_mean, module.running_var, eps=module.eps).view_as(inputs)
    return _affine(module, normed, outputs, (1, *range(3, inputs.ndim)))


def _group_norm(module: nn.GroupNorm, inputs: Tensor, outputs: Tensor) -> dict[str, Source]:
    normed = F.group_norm(inputs.flatten(0, 1), module.num_groups, eps=module.eps).view_as(inputs)
    return _affine(module, normed, outputs, (1, *range(3, inputs.ndim)))


def _affine(module: nn.Module, normed: Tensor, outputs: Tensor, others: tuple[int, ...]) -> dict[str, Source]:
    return {"weight": Dense((outputs * normed).sum(others))} | _bias(module, outputs.sum(others))


def _embedding(module: nn.Embedding, inputs: Tensor, outputs: Tensor) -> dict[str, Source]:
    index = inputs.reshape(len(inputs), -1)
    return {"weight": Rows(outputs.reshape(*index.shape, outputs.shape[-1]), index, module.padding_idx)}


def _bias(module: Any, values: Tensor) -> dict[str, Source]:
    return {} if module.bias is None else {"bias": Dense(values)}


_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.LayerNorm: _layer_norm,
    TimmLayerNorm: _layer_norm,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm3d: _batch_norm,
    nn.GroupNorm: _group_norm,
    nn.Embedding: _embedding,
}
