"""What a learner answers when it is asked about images, in the names of their classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.jupyter import JupyterMixin
from rich.table import Table
from torch import Tensor

from snn_artsy.backbone import FrozenBackbone, extract_features
from snn_artsy.checks import ConfigError, require_finite
from snn_artsy.config import RunConfig
from snn_artsy.data.given import KEY, GivenImages
from snn_artsy.files import sha256
from snn_artsy.learners.base import Batch, LabelledBatch, Learner, Prediction
from snn_artsy.learners.tasks import PartOf
from snn_artsy.runs.evaluate import TEST_BATCH, predict, spike_decision
from snn_artsy.runs.progress import progress_bar
from snn_artsy.threads import computing_with

TEST_IMAGES = "test_images.safetensors"
"""In a run's directory: its test images' numbers, by their features (`known_images`)."""

Load = Callable[[NDArray[np.int64]], Tensor]
"""Places in a batch -> what the samples there are beside their features."""


@dataclass(frozen=True)
class Answers(JupyterMixin):
    """A learner's answers for n images, over C classes and N tasks.

    Args:
        learner: Its name.
        images: What each image is called: its path as it was given, or its number, [n].
        class_names: Names of the classes, [C].
        predicted: Predicted class, as a place among ``class_names``, int64 [n].
        scores: [n, C].
        gates: m_t, bool [n, N], and ``gate_scores``, calibrated S_t, [n, N]; None without gates.
        spike_predicted: Class decided from postsynaptic spikes alone, -1 where no neuron fired,
            int64 [n], and ``spike_counts``, spikes of each class's assembly, [n, C]; None without.
        vit_passes: Passes of the ViT that each image took, [n].
    """

    learner: str
    images: tuple[str, ...]
    class_names: tuple[str, ...]
    predicted: NDArray[np.int64]
    scores: NDArray[np.float32]
    gates: NDArray[np.bool_] | None
    gate_scores: NDArray[np.float32] | None
    spike_predicted: NDArray[np.int64] | None
    spike_counts: NDArray[np.int64] | None
    vit_passes: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def classes(self) -> list[str]:
        """Name of each image's predicted class."""
        return [self.class_names[label] for label in self.predicted]

    def records(self) -> list[dict[str, Any]]:
        """One mapping of JSON's types an image: ``image``, ``class``, ``scores`` by class,
        ``gates`` and ``gate_scores`` by task (from "1"), ``spike_class`` (None where no neuron
        fired) and ``spike_counts`` by class, ``vit_passes``; None for what the learner does not
        have."""
        return [self._record(i) for i in range(len(self))]

    def _record(self, i: int) -> dict[str, Any]:
        def named(values: NDArray[Any] | None, names: Sequence[str]) -> dict[str, Any] | None:
            return None if values is None else dict(zip(names, map(_plain, values[i]), strict=True))

        n_tasks = 0 if self.gates is None else self.gates.shape[1]
        tasks = [str(t + 1) for t in range(n_tasks)]
        spike_class = None
        if self.spike_predicted is not None and self.spike_predicted[i] >= 0:
            spike_class = self.class_names[self.spike_predicted[i]]
        return {
            "image": self.images[i],
            "class": self.class_names[self.predicted[i]],
            "scores": named(self.scores, self.class_names),
            "gates": named(self.gates, tasks),
            "gate_scores": named(self.gate_scores, tasks),
            "spike_class": spike_class,
            "spike_counts": named(self.spike_counts, self.class_names),
            "vit_passes": _plain(self.vit_passes[i]),
        }

    def __rich__(self) -> Table:
        table = Table(title=self.learner, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
        table.add_column("image", overflow="fold")
        table.add_column("class")
        table.add_column("score", justify="right")
        for heading, given in (("open gates", self.gates), ("from spikes", self.spike_predicted)):
            if given is not None:
                table.add_column(heading)
        if self.spike_counts is not None:
            table.add_column("spikes", justify="right")
        table.add_column("ViT", justify="right")
        for i, name in enumerate(self.images):
            cells = [name, self.classes[i], f"{self.scores[i, self.predicted[i]]:.3f}"]
            if self.gates is not None:
                cells.append(", ".join(map(str, np.flatnonzero(self.gates[i]) + 1)) or "none")
            if self.spike_predicted is not None:
                label = self.spike_predicted[i]
                cells.append(self.class_names[label] if label >= 0 else "no spikes")
            if self.spike_counts is not None:
                cells.append(str(self.spike_counts[i].sum()))
            table.add_row(*cells, f"{self.vit_passes[i]:.1f}")
        words = ["score: what the learner ranks classes by."]
        if self.gates is not None:
            words.append("open gates: tasks, from 1, whose sub-networks took part.")
        if self.spike_predicted is not None:
            words.append("from spikes: the class by postsynaptic spikes, h_0 not added.")
        if self.spike_counts is not None:
            words.append("spikes: of all postsynaptic neurons.")
        table.caption = " ".join([*words, "ViT: passes of the transformer."])
        table.caption_justify = "left"
        return table


def _plain(value: Any) -> Any:
    """As JSON has it; a float32 in as few digits as tell it from others."""
    return float(str(value)) if isinstance(value, np.float32) else value.item()


class Answering:
    """A learner that can be asked about images.

    Args:
        name: What it is called.
        learner: It has learnt at least one task.
        config: How features are made.
        backbone: E_0; None: features alone can be asked about.
        device: Where the learner is.
        class_names: Of every label; the learner may know the first ones only.
        threads: To compute with; None: torch's.
        known: Numbers by which samples draw their noise, by `_digests` of their features.
        dim: Numbers in a sample's features, where there is no backbone that says so.

    Attributes:
        name, learner, config, class_names: As given.
    """

    def __init__(
        self,
        name: str,
        learner: Learner,
        config: RunConfig,
        backbone: FrozenBackbone | None,
        device: str,
        class_names: Sequence[str],
        threads: int | None = None,
        known: dict[int, int] | None = None,
        dim: int | None = None,
    ) -> None:
        self.name, self.learner, self.class_names = name, learner, tuple(class_names)
        self.config, self._backbone, self._device = config, backbone, device
        self._threads, self._known = threads, known or {}
        self._dim = dim if backbone is None else backbone.dim
        # the first adapted block, whose tokens go with the features
        self._first: int | None = None
        if backbone is not None and config.ann.placement == "blocks":
            self._first = backbone.first_adapted(config.ann.blocks)

    def predict(self, images: Any, console: Console | None = None) -> Answers:
        """Answer for images of any size, or for features.

        An answer depends on the image alone: spikes are drawn with a number made of its features. A
        test image of the run, known by its features, is shown as it was in the run, and answered as
        ``run.h5`` has it.

        Args:
            images: A file, a folder (all images below it), an image of Pillow, an array (uint8
                [H, W], [H, W, 3], [n, H, W] or [n, H, W, 3]), or a list of these; or features of
                the backbone, floats [n, D]; or a batch of a task.
            console: Shows progress; default: none.

        Raises:
            ConfigError: What is given are no images, or one cannot be read.
            NotFinite: A feature or a score is NaN or infinite.
        """
        if isinstance(images, Batch):
            return self._named(self._ask(images), [f"image {i}" for i in images.index.tolist()])
        if _is_features(images):
            features = torch.as_tensor(np.asarray(images, dtype=np.float32))
            self._check_features(features)
            names = [f"image {i}" for i in range(len(features))]
            return self._named(self._ask(self._batch(features)), names)
        given = images if isinstance(images, GivenImages) else GivenImages(images)
        if self._backbone is None:
            raise ConfigError(KEY, "this learner has seen features only; give features [n, D]")
        given.check()
        parts = []
        with progress_bar(console or Console(quiet=True)) as progress:
            bar = progress.add_task(self.name, total=len(given))
            for rows in np.array_split(np.arange(len(given)), -(-len(given) // TEST_BATCH)):
                begun = int(rows[0])

                def tell(done: int, _: int, begun: int = begun) -> None:
                    progress.update(bar, completed=begun + done)

                parts.append(self._ask(self._seen(given, rows, tell)))
        answers = Prediction.concatenate(parts)
        return self._named(answers, [given.name(i) for i in range(len(given))])

    def _seen(
        self, given: GivenImages, rows: NDArray[np.int64], tell: Callable[[int, int], None]
    ) -> Batch:
        """Some images as the learner sees them; memory holds no others."""
        backbone, config, tokens = self._backbone, self.config.backbone, list[Tensor]()
        assert backbone is not None
        features = extract_features(
            backbone,
            given,
            rows,
            replace(config, cache=False),
            tell,
            threads=self.config.threads,
            first=self._first,
            tokens_to=None if self._first is None else lambda _, part: tokens.append(part.cpu()),
        )
        whole = torch.cat(tokens) if tokens else None

        def load_images(places: NDArray[np.int64]) -> Tensor:
            return backbone.load_images(given, rows[places])

        def load_tokens(places: NDArray[np.int64]) -> Tensor:
            assert whole is not None
            return whole[torch.from_numpy(places)]

        return self._batch(torch.from_numpy(features), load_images, load_tokens if tokens else None)

    def _batch(
        self, features: Tensor, load_images: Load | None = None, load_tokens: Load | None = None
    ) -> Batch:
        """Samples with the numbers that their noise is drawn by."""
        numbers = np.array(
            [self._known.get(digest, digest % 2**62) for digest in _digests(features)], np.int64
        )
        # images with the same number are the same
        place = {number: place for place, number in enumerate(numbers.tolist())}

        def part(load: Load | None) -> PartOf | None:
            if load is None:
                return None

            def numbered(_: str, index: NDArray[np.int64]) -> Tensor:
                return load(np.array([place[number] for number in index.tolist()], np.int64))

            return PartOf(numbered, "test", numbers)

        return Batch(
            features.to(self._device),
            torch.from_numpy(numbers).to(self._device),
            "test",
            load_images=part(load_images),
            load_tokens=part(load_tokens),
        )

    def _ask(self, batch: Batch) -> Prediction:
        """The learner's answer, on the CPU."""
        with computing_with(self._threads or torch.get_num_threads()), torch.no_grad():
            answer = predict(self.learner, batch)
        require_finite("answers", {"scores": answer.scores})
        given = {f.name: getattr(answer, f.name) for f in fields(answer)}
        return replace(answer, **{k: v.cpu() for k, v in given.items() if v is not None})

    def _named(self, answer: Prediction, images: Sequence[str]) -> Answers:
        def array(values: Tensor | None) -> NDArray[Any] | None:
            return None if values is None else values.numpy()

        n_classes = answer.scores.shape[1]
        passes = torch.ones(len(images)) if answer.vit_passes is None else answer.vit_passes
        return Answers(
            self.name,
            tuple(images),
            self.class_names[:n_classes],
            answer.scores.argmax(1).numpy(),
            answer.scores.float().numpy(),
            array(answer.gates),
            array(answer.gate_scores),
            array(spike_decision(answer)),
            None if answer.spike_counts is None else answer.spike_counts.long().numpy(),
            passes.float().numpy(),
        )

    def _check_features(self, features: Tensor) -> None:
        if not len(features):
            raise ConfigError(KEY, "features of no image; give at least one")
        if self._first is not None:
            raise ConfigError(KEY, "sub-networks in the blocks see more than features; give images")
        if self._dim not in (None, features.shape[1]):
            whose = "those that it learnt from" if self._backbone is None else "the backbone's"
            raise ConfigError(
                KEY,
                f"features of {features.shape[1]} numbers; {whose} have {self._dim}: give such",
            )
        require_finite("features", {"what was given": features})


def _is_features(given: Any) -> bool:
    """Whether something is an array of floats [n, D]."""
    kind = str(getattr(given, "dtype", ""))
    return "float" in kind and len(getattr(given, "shape", ())) == 2


def known_images(tests: Iterable[LabelledBatch]) -> dict[str, Tensor]:
    """Test images as a run keeps them to know them again: ``digest`` of their features and their
    ``number``, int64 [n] each."""
    tests = list(tests)
    numbers = torch.cat([test.index for test in tests])
    digests = [digest for test in tests for digest in _digests(test.features)]
    return {"digest": torch.tensor(digests, dtype=torch.int64), "number": numbers}


def _digests(features: Tensor) -> list[int]:
    """A 64-bit number made of each sample's features, [n, D]."""
    rows = np.ascontiguousarray(features.cpu().numpy())
    return [
        int.from_bytes(bytes.fromhex(sha256([row.data])[:16]), "big", signed=True) for row in rows
    ]
