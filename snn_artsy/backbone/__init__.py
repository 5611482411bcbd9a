"""The frozen vision transformer E_0, the features h_0 it gives, and the trunk that sub-networks in
its blocks share.

>>> backbone = FrozenBackbone.build(BackboneConfig(), torch.device("cpu"))  # doctest: +SKIP
>>> features = extract_features(backbone, source.train, index, config)      # doctest: +SKIP
"""

from snn_artsy.backbone.augmentation import Augmentation
from snn_artsy.backbone.exported import require_engine
from snn_artsy.backbone.features import cache_directory, extract_features
from snn_artsy.backbone.precision import settle_precision
from snn_artsy.backbone.trunk import Trunk
from snn_artsy.backbone.vit import FrozenBackbone, pieces_of

__all__ = [
    "Augmentation",
    "FrozenBackbone",
    "Trunk",
    "cache_directory",
    "extract_features",
    "pieces_of",
    "require_engine",
    "settle_precision",
]
