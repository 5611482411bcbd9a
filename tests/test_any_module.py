"""Features by any network of PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

import snn_artsy as sa
from snn_artsy.checks import ConfigError, NotFinite
from snn_artsy.data import ArraySplit


def as_floats(image: Image.Image) -> Tensor:
    return pil_to_tensor(image.resize((4, 4))) / 255.0


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(48), nn.Dropout(0.5), nn.Linear(48, 5))


def images(n: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


def test_they_are_what_the_network_gives() -> None:
    module, given = network().train(), images()
    module[2].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    found = sa.features(module, as_floats, given, batch_size=5)
    # left as it was, also in what it is training
    assert [each.training for each in module] == [True, True, False, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    with torch.no_grad():
        every = torch.stack([as_floats(Image.fromarray(image)) for image in given])
        expected = module.eval()(every)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


def test_a_folder_and_a_split_of_a_source(tmp_path: Path) -> None:
    given = images(3)
    for i, image in enumerate(given):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    expected = sa.features(network(), as_floats, given)
    found = sa.features(network(), as_floats, tmp_path)
    np.testing.assert_array_equal(found, expected)
    split = ArraySplit(given, np.zeros(3, dtype=np.int64))
    np.testing.assert_array_equal(sa.features(network(), as_floats, split), expected)


def test_learners_learn_them() -> None:
    labels = np.arange(40) % 4
    bright = (images(40) // 4 + 60 * labels[:, None, None, None]).astype(np.uint8)
    found = sa.features(nn.Flatten(), as_floats, bright)
    stream = sa.stream(sa.data.from_arrays(found - found.mean(0), labels), data={"n_tasks": 2})
    learner = stream.learner("joint", joint={"l2": [0.01]})
    for task in stream:
        learner.learn(task)
    assert np.mean(learner.predict(task.seen).predicted == task.seen.labels.numpy()) == 1.0


class Wider(nn.Module):
    """One number more each time."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 1

    def forward(self, x: Tensor) -> Tensor:
        self.n += 1
        return torch.zeros(len(x), self.n)


def test_wrong_arguments_are_named() -> None:
    widths = iter((2, 3))
    for module, transform, size, said in (
        (3, as_floats, 2, "module: 3 cannot be used"),
        (nn.Flatten(), None, 2, "transform: None cannot be used"),
        (nn.Flatten(), lambda image: image, 2, "transform: gives Image; let it give a tensor"),
        (nn.Flatten(), lambda _: torch.zeros(next(widths)), 1, r"transform: gives \[2\] and \[3\]"),
        (Wider(), as_floats, 1, "module: gives rows of several lengths"),
        (nn.Flatten(), as_floats, True, "batch_size: True cannot be used"),
    ):
        given: Any = module, transform
        with pytest.raises(ConfigError, match=f"^{said}"):
            sa.features(*given, images(2), batch_size=size)


class Two(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Identity(), r"module: gives \[2, 3, 4, 4\] for 2 images"),
        (Two(), r"module: gives tuple for 2 images"),
        (nn.Flatten(0, 2), r"module: gives \[24, 4\] for 2 images"),
    ],
)
def test_what_is_no_row_of_features_is_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sa.features(module, as_floats, images(2))


def test_numbers_that_are_not_finite_are_refused() -> None:
    class Bad(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return x.flatten(1) / 0

    with pytest.raises(NotFinite, match="the module's answer"):
        sa.features(Bad(), as_floats, images(2))
    with pytest.raises(ConfigError, match="batch_size"):
        sa.features(network(), as_floats, images(2), batch_size=0)
