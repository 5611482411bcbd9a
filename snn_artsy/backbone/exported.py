"""Passes through the frozen ViT by OpenVINO, which fuses what torch computes one by one."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from snn_artsy.checks import ConfigError
from snn_artsy.threads import cores

_HINTS = {"float32": "f32", "bfloat16": "bf16"}


def require_engine(engine: str, device: torch.device | str) -> None:
    """Refuse ``backbone.engine: openvino`` where it cannot be had, before images are looked at.

    Raises:
        ConfigError: It is not installed or cannot be loaded, or the device is no CPU.
    """
    if engine != "openvino":
        return
    if torch.device(device).type != "cpu":
        raise ConfigError(
            "backbone.engine",
            f"computes on the CPU and not on {device}; use torch, or device cpu",
            engine,
        )
    try:
        _openvino()
        version("openvino")  # which a run records
    except Exception as error:
        # a package that is there, but damaged or for another machine, raises errors of any kind
        absent = isinstance(error, ModuleNotFoundError)  # so is a package without its metadata
        reason = "" if absent else f" whole ({' '.join(str(error).split())})"
        raise ConfigError(
            "backbone.engine",
            f"is not installed{reason}; pip install 'snn-artsy[openvino]', or use torch",
            engine,
        ) from error


def _openvino() -> Any:
    """OpenVINO, kept from telling its makers over the network that it is used.

    It does so whenever it is imported or converts a model, unless the user has declined, and keeps
    a number for the user at home. Where the package for that cannot be imported, it goes without.

    Raises:
        ImportError: It is not installed.
    """
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


class ExportedPass:
    """A function of images, exported as a graph and compiled for every number of images that comes.

    Once a number of images has come, several threads may ask at once: each computes with one core,
    as torch's passes do, so that no number depends on how many there are.

    Args:
        module: Float32 [B, 3, H, W] -> float32, without any randomness, on the CPU.
        precision: ``float32`` or ``bfloat16`` arithmetic.

    Raises:
        ConfigError: When called: a model that cannot be exported, or has operations that OpenVINO
            does not know.
    """

    def __init__(self, module: nn.Module, precision: str) -> None:
        self._module, self._precision = module, precision
        self._compiled: dict[tuple[int, ...], Any] = {}
        self._compiling = threading.Lock()
        self._own = threading.local()  # a thread's requests, which cannot be shared

    def __call__(self, images: Tensor) -> Tensor:
        """What the module would give, without gradients."""
        shape = tuple(images.shape)
        requests: dict[tuple[int, ...], Any] = self._own.__dict__.setdefault("requests", {})
        if shape not in requests:
            requests[shape] = self.compile(shape).create_infer_request()
        answer = requests[shape].infer([images.contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(answer[0])

    def compile(self, shape: tuple[int, ...]) -> Any:
        """OpenVINO's graph for images of this shape, made once."""
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[self._precision],
            "INFERENCE_NUM_THREADS": cores(),
            "NUM_STREAMS": cores(),  # each with one thread
            "ENABLE_CPU_PINNING": False,
        }
        with self._compiling:
            if shape not in self._compiled:
                core, graph = _openvino().Core(), self._converted(shape)
                self._compiled[shape] = core.compile_model(graph, "CPU", settings)
            return self._compiled[shape]

    def _converted(self, shape: tuple[int, ...]) -> Any:
        try:
            with torch.no_grad():
                exported = torch.export.export(self._module, (torch.zeros(shape),))
            return _openvino().convert_model(exported)
        except Exception as error:
            # torch raises errors of its own private classes, and OpenVINO one with many lines.
            last = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
            raise ConfigError(
                "backbone.engine",
                f"cannot take this model ({last}); use torch",
                "openvino",
            ) from error


class AsModule(nn.Module):
    """A function of images as a module, which is what can be exported.

    Args:
        function: Of images alone.
        vit: The module that it computes with.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], vit: nn.Module) -> None:
        super().__init__()
        self.vit, self.function = vit, function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)
