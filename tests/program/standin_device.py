"""A device that is not the CPU but computes on it, for what a machine without a GPU can still test.

Its tensors refuse what those of a GPU refuse: to meet a tensor of the CPU in one operation (unless
it has no dimensions, or is an index), and to be handed to numpy. Values are the CPU's own, so that
results must be equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

try:
    from torch.utils.backend_registration import (
        _DummyBackendModule,
        _setup_privateuseone_for_python_backend,
    )
except ImportError:
    pytest.skip("torch is too old for a device made in Python", allow_module_level=True)

NAME = "standin"


class _Module(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


@cache
def register() -> None:
    """Make the device known to torch: before the first backward pass, which counts devices."""
    _setup_privateuseone_for_python_backend(NAME, _Module())


class Elsewhere(torch.Tensor):
    """A tensor on the device; ``inner`` holds its values on the CPU."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Elsewhere:
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device=torch.device(NAME, 0),
        )  # fmt: skip
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _carry_out(operation, args, kwargs or {})

    def tolist(self) -> Any:
        return self.inner.tolist()


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, Elsewhere) else value


def _carry_out(operation: Any, args: Any, kwargs: Any) -> Any:
    name = operation.name()
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    there = [x for x in tensors if isinstance(x, Elsewhere)]
    here = [x for x in tensors if not isinstance(x, Elsewhere) and x.ndim > 0]
    moves = name in ("aten::_to_copy", "aten::copy_")
    if there and here and not moves and not name.startswith("aten::index.Tensor"):
        raise RuntimeError(f"{name}: tensors of the CPU and of another device in one operation")
    device = kwargs.get("device")
    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
        goes_there = torch.device(device).type == NAME
    else:
        goes_there = isinstance(args[0], Elsewhere) if name == "aten::copy_" else bool(there)
    found = operation(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    known = {id(x.inner): x for x in there}  # what is changed in place stays itself

    def outer(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not goes_there:
            return value
        return known[id(value)] if id(value) in known else Elsewhere(value)

    return tree_map(outer, found)


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _carry_out(operation, args, kwargs or {})


class _Makers(TorchFunctionMode):
    """`torch.tensor` and lists of indices go to the device without being dispatched."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor) and "device" in kwargs:
            device = kwargs.pop("device")
            return function(*args, **kwargs).to(device)
        if function is torch.Tensor.new_tensor and isinstance(args[0], Elsewhere):
            return torch.tensor(args[1], dtype=args[0].dtype).to(NAME)
        indexing = function in (torch.Tensor.__getitem__, torch.Tensor.__setitem__)
        if indexing and isinstance(args[0], Elsewhere) and isinstance(args[1], list):
            index = torch.tensor(args[1], dtype=torch.int64).to(NAME)
            return function(args[0], index, *args[2:])
        return function(*args, **kwargs)


@contextmanager
def standin_device() -> Iterator[str]:
    """The device's name, while it can be used."""
    register()
    with _Makers(), _Operations():
        yield NAME
