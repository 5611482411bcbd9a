"""A vision transformer's weights from a local file, as other programs leave them.

What a file is, is told from its first bytes, not from its name; nothing is unpickled. Weights may
lie in a container (``state_dict``, DINO's ``teacher``, ...) and under a prefix (``module.``,
``backbone.``, ...): those that fit the model are found by its own tensors' names. They must fit
completely, but for the classifier, which is left out.
"""

from __future__ import annotations

import argparse
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snn_artsy.checks import ConfigError

_PREFERRED = ("state_dict_ema", "model_ema", "state_dict", "model", "")
"""Containers of timm's training script, and the file itself; of several that fit, the first is
meant."""

_LISTED = 5
_KEY = "backbone.checkpoint"
"""How many names an error message lists."""

_NO_WEIGHTS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; fetch it: git lfs pull"),
    (b"\x1f\x8b", "a gzip archive; unpack it, and give the file inside"),
    (b"BZh", "a bzip2 archive; unpack it, and give the file inside"),
    (b"\xfd7zXZ", "an xz archive; unpack it, and give the file inside"),
    (b"\x89HDF", "an HDF5 file, as Keras writes; convert it to .safetensors with timm's names"),
)
"""First bytes of what people have in place of weights, and what to do about it."""


def load_weights(vit: nn.Module, path: Path) -> None:
    """Load all of ``vit``'s weights from ``path``, the classifier head left out.

    Not through timm's ``pretrained_cfg_overlay``: with ``num_classes=0`` that loads leniently, so
    weights of another model would leave random layers behind without a word.

    Raises:
        ConfigError: No such file, no weights, or none, or more than one, that fit.
    """
    if not path.is_file():
        raise ConfigError(_KEY, f"no file {str(path)!r} here; give a weights file")
    expected = vit.state_dict()
    heads = getattr(vit, "pretrained_cfg", {}).get("classifier") or ()
    heads = tuple(f"{h}." for h in ((heads,) if isinstance(heads, str) else heads))
    candidates = list(_candidates(_read(path), expected, heads))
    if not candidates:
        raise ConfigError(
            _KEY,
            f"{str(path)!r} holds no tensors with names; save model.state_dict()",
        )
    fitting = [candidate for candidate in candidates if candidate.fits]
    preferred = [c for name in _PREFERRED for c in fitting if c.container == name]
    if len(fitting) > 1 and not preferred:
        names = " and ".join(repr(c.name) for c in fitting)
        raise ConfigError(
            _KEY,
            f"{path.name} holds {len(fitting)} sets of weights that fit "
            f"({names}); save the one you mean in a file of its own (of DINO's, the teacher)",
        )
    if not fitting:
        closest = min(candidates, key=lambda candidate: candidate.n_problems)
        raise ConfigError(
            _KEY,
            f"{path.name} does not fit backbone.name: its tensors are "
            f"{closest.problems()}; {closest.remedy()}",
        )
    chosen = (preferred or fitting)[0]
    try:
        vit.load_state_dict(chosen.state, strict=True)
    except (RuntimeError, NotImplementedError) as e:  # sparse or quantised tensors
        reason = str(e).strip().splitlines()[-1].strip()
        raise ConfigError(
            _KEY,
            f"{path.name} holds tensors that cannot be copied ({reason}); save plain ones",
        ) from e


@dataclass(frozen=True)
class _Candidate:
    """Tensors of one container that share a prefix, beside those that the model has.

    Args:
        container: Keys that lead to them, joined by dots; "" for the file itself.
        prefix: What the model's names are preceded by.
        state: The tensors, without the prefix.
        expected: The model's.
    """

    container: str
    prefix: str
    state: dict[str, Tensor]
    expected: Mapping[str, Tensor]

    @property
    def name(self) -> str:
        return ".".join(filter(None, (self.container, self.prefix.rstrip("."))))

    @property
    def missing(self) -> list[str]:
        return sorted(set(self.expected) - set(self.state))

    @property
    def unexpected(self) -> list[str]:
        return sorted(set(self.state) - set(self.expected))

    @property
    def reshaped(self) -> list[str]:
        common = sorted(set(self.state) & set(self.expected))
        return [k for k in common if self.state[k].shape != self.expected[k].shape]

    @property
    def n_problems(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.reshaped)

    @property
    def fits(self) -> bool:
        return self.n_problems == 0

    def problems(self) -> str:
        shapes = [
            f"{k} {list(self.state[k].shape)} instead of {list(self.expected[k].shape)}"
            for k in self.reshaped
        ]
        kinds = (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("of another shape", shapes),
        )
        return "; ".join(
            f"{len(names)} {kind} ({', '.join(names[:_LISTED])}{', ...' * (len(names) > _LISTED)})"
            for kind, names in kinds
            if names
        )

    def remedy(self) -> str:
        """What to do about the problems."""
        if not self.missing and not self.reshaped:
            return (
                "the model's own weights are all there: name the model that has the others, too, "
                "or save the file without them, if they are a decoder's or of a training head"
            )
        if not self.missing and not self.unexpected and self.reshaped == ["pos_embed"]:
            return "they are for another image size: give the timm name of that size"
        if len(self.missing) == len(self.expected):
            return (
                "no name is one of timm's: another library names its tensors differently, so "
                "convert the file, or take the model from timm's own hub (hf-hub:owner/model)"
            )
        return "give the timm name of the model these weights belong to"


def _candidates(
    content: Mapping[Any, Any], expected: Mapping[str, Tensor], heads: tuple[str, ...]
) -> Iterator[_Candidate]:
    """Every container of named tensors, under every prefix that the model's first name has."""
    anchor = next(iter(expected))
    for container, tensors in _containers(content):
        prefixes = {k.removesuffix(anchor) for k in tensors if f".{k}".endswith(f".{anchor}")}
        for prefix in sorted(prefixes | {""}):
            state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            state = {
                k: v for k, v in state.items() if k in expected or not k.startswith(heads or "\0")
            }
            yield _Candidate(container, prefix, state, expected)


def _containers(
    content: Mapping[Any, Any], name: str = "", depth: int = 2
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(name, its tensors by name) of every mapping in ``content``, itself first."""
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if tensors:
        yield name, tensors
    if depth:
        for key, value in content.items():
            if isinstance(key, str) and isinstance(value, Mapping):
                yield from _containers(value, f"{name}.{key}" if name else key, depth - 1)


def _read(path: Path) -> Mapping[Any, Any]:
    """The file's content, never unpickling: weights_only runs no code from the file."""
    where = repr(str(path))
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError as e:
        raise ConfigError(_KEY, f"{where} cannot be read ({e.strerror}); give another file") from e
    if not start:
        raise ConfigError(_KEY, f"{where} is empty; copy or download it again")
    for magic, what in _NO_WEIGHTS:
        if start.startswith(magic):
            raise ConfigError(_KEY, f"{where} is {what}")
    if start[257:262] == b"ustar":
        raise ConfigError(_KEY, f"{where} is a tar archive; unpack it, and give the file inside")
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        raise ConfigError(
            _KEY, f"{where} is a web page, not the file itself; download what its link leads to"
        )
    if path.suffix == ".safetensors" and start.startswith(b"PK"):
        raise ConfigError(_KEY, f"{where} is no safetensors file, but one of torch; call it .pth")
    # a safetensors file begins with the length of its JSON header, in 8 bytes
    if path.suffix == ".safetensors" or start[8:10] == b'{"':
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as e:
            raise ConfigError(
                _KEY, f"{where} is not a whole safetensors file ({e}); copy or download it again"
            ) from e
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
        raise ConfigError(
            _KEY,
            f"{where} is text, not weights (it begins with {start[:40].decode('ascii')!r}); "
            "download it again, or give another file",
        )
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith(".npy") for name in archive.namelist()):
                raise ConfigError(
                    _KEY,
                    f"{where} is a NumPy archive, as JAX writes; leave it out and let timm "
                    "download the model, or convert it to .safetensors with timm's names",
                )
    try:
        # timm's own training script stores its options as a Namespace, which is harmless.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        raise ConfigError(
            _KEY,
            f"{where} holds more than tensors, or is no weights file, and unpickling it could run "
            "any code; save the weights alone, as .safetensors or by "
            "torch.save(model.state_dict(), ...)",
        ) from e
    except Exception as e:
        # A damaged file makes torch fail with errors of many kinds, without a common base.
        raise ConfigError(
            _KEY,
            f"{where} cannot be read ({type(e).__name__}); give a .safetensors file, or a .pth or "
            ".pt file with a state dict",
        ) from e
    if not isinstance(content, Mapping):
        raise ConfigError(
            _KEY,
            f"{where} holds a {type(content).__name__}, not a state dict; save model.state_dict()",
        )
    return content
