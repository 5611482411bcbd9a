"""Checks of the arrays that synapses and rules are given, before anything computes with them.

The one place where shape, type, device and values are looked at: compiled loops trust their
arrays, and a NaN that reaches an occupancy stays there for good. Every failure says the name, what
was expected and what was given. torch and NumPy are imported when a check runs, not with this
module: rules are loaded without them.

Axes have names, as in ``"T B n_pre"``. ``sizes`` holds the sizes known so far; an axis that is not
in it takes the size of the first array that has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snn_artsy.checks import NotFinite

if TYPE_CHECKING:
    from torch import Tensor

Sizes = dict[str, int]

# Beyond it sums over steps, presentations and contacts could leave what float32 holds.
LARGEST = 1e9


def check_tensor(name: str, values: object, axes: str, sizes: Sizes, like: Tensor) -> None:
    """A tensor of these axes on ``like``'s device; its type may be any that has real numbers.

    Raises:
        TypeError: It is no dense tensor of real numbers, or torch.autocast is on.
        ValueError: Its shape or device is another.
    """
    import torch

    if not isinstance(values, torch.Tensor):
        raise _wrong(TypeError, name, "a torch tensor", type(values).__name__)
    if values.layout != torch.strided or values.is_complex() or values.is_quantized:
        given = f"{values.dtype}, {values.layout}".replace("torch.", "")
        raise _wrong(TypeError, name, "a dense tensor of real numbers", given)
    check_shape(name, tuple(values.shape), axes, sizes)
    if values.device != like.device:
        raise _wrong(ValueError, name, f"a tensor on {like.device}", f"one on {values.device}")
    device = like.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        # sums of many small changes and of spikes need more digits than bfloat16 and float16 have
        raise TypeError(
            f"{name}: synapses are not computed under torch.autocast, which would round their sums "
            f"to {_plain(torch.get_autocast_dtype(device))}; leave them out of it, in "
            f"`with torch.autocast({device!r}, enabled=False):`"
        )


def check_same_kind(name: str, values: object, axes: str, sizes: Sizes, like: Tensor) -> None:
    """`check_tensor`, and of ``like``'s type."""
    check_tensor(name, values, axes, sizes, like)
    dtype = getattr(values, "dtype", None)
    if dtype != like.dtype:
        raise _wrong(TypeError, name, _plain(like.dtype), _plain(dtype))


def check_shape(name: str, shape: tuple[int, ...], axes: str, sizes: Sizes) -> None:
    """Sizes of all axes; a time axis ``T`` has at least one step."""
    names = axes.split()
    expected = [sizes.get(axis, axis) for axis in names]
    fits = len(shape) == len(names) and all(
        size in (given, axis) for size, given, axis in zip(expected, shape, names, strict=True)
    )
    if not fits:
        known = f"[{', '.join(map(str, expected))}]"
        known = known if expected == names else f"[{', '.join(names)}] = {known}"
        raise _wrong(ValueError, name, f"shape {known}", f"shape {list(shape)}")
    sizes.update(zip(names, shape, strict=True))
    if sizes.get("T") == 0:
        raise _wrong(ValueError, name, "at least one time step", f"shape {list(shape)}")


def axes_like(values: object, first: str = "axis0") -> str:
    """Names for the axes of an array of any number of them."""
    names = [first, *(f"axis{k}" for k in range(1, getattr(values, "ndim", 0)))]
    return " ".join(names[: getattr(values, "ndim", 0)])


def check_spikes(name: str, values: Tensor) -> None:
    """Nothing but 0 and 1."""
    import torch

    values = values.detach()
    if (
        values.is_floating_point() and values.element_size() == 1
    ):  # torch computes nothing in 8 bits
        values = values.float()
    if values.is_floating_point():
        # x - x^2 is 0 for 0 and 1 alone, and NaN for NaN and infinity
        wrong = torch.addcmul(values, values, values, value=-1)
    elif values.dtype == torch.bool:
        return
    else:
        wrong = (values != 0) & (values != 1)
    if _read(name, wrong.any()):
        at = wrong.nonzero()[0].tolist()
        raise _wrong(ValueError, name, "spikes, 0 or 1", f"{values[tuple(at)].item():g} at {at}")


def check_range(name: str, values: Tensor, low: float = -LARGEST, high: float = LARGEST) -> None:
    """Nothing but numbers from ``low`` to ``high``: no NaN, no infinity."""
    if values.numel() == 0:
        return
    least, most = (_read(name, end) for end in values.detach().aminmax())
    if not (low <= least and most <= high):  # so that NaN fails
        given = "NaN" if least != least else f"{least:g} to {most:g}"
        raise _wrong(ValueError, name, f"numbers from {low:g} to {high:g}", given)


def check_computed(name: str, values: Tensor) -> None:
    """As `check_range`, of what was computed here and not given.

    Raises:
        NotFinite: A number is NaN, infinite or too large.
    """
    try:
        check_range(name, values)
    except ValueError as error:
        raise NotFinite(str(error)) from error


def check_array(name: str, values: Any, dtype: str, axes: str, sizes: Sizes) -> None:
    """A C-contiguous NumPy array of this type, as compiled loops take it."""
    import numpy as np

    if not isinstance(values, np.ndarray):
        raise _wrong(TypeError, name, "a NumPy array", type(values).__name__)
    if values.dtype != np.dtype(dtype) or not values.flags.c_contiguous:
        given = f"{values.dtype}" + ("" if values.flags.c_contiguous else ", not C-contiguous")
        raise _wrong(TypeError, name, f"{dtype}, C-contiguous", given)
    check_shape(name, values.shape, axes, sizes)


def _read(name: str, value: Tensor) -> float:
    """The number in a tensor; under torch.vmap and torch.export there is none to be read."""
    try:
        return float(value)
    except RuntimeError as error:
        raise TypeError(
            f"{name}: expected a tensor whose values can be read, given one of torch.vmap, "
            f"torch.export or the meta device; give the batch as axis B ({error})"
        ) from error


def _plain(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


def _wrong(
    kind: type[TypeError | ValueError], name: str, expected: str, given: str
) -> TypeError | ValueError:
    return kind(f"{name}: expected {expected}, given {given}")
