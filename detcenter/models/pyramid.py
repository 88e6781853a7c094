"""Feature maps of chosen strides from any image classifier of torchvision."""

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.misc import FrozenBatchNorm2d

_PROBE_SIZES = (256, 384)  # pixels; multiples of every stride


class PyramidBackbone(nn.Module):
    """Feature maps at ``strides``, merged top-down from ``top_stride`` (Lin et al., CVPR 2017).

    At each stride the last map before the resolution halves is taken: in MobileNetV2 the wide
    expansion layer of the next block.

    Args:
        classifier: a torchvision classification model; what lies behind the last map is dropped.
        strides: of the maps returned, powers of two, ascending.
        top_stride: of the coarsest map that is merged into the others.
        out_channels: width of the maps returned.
        trainable_layers: how many stages, one a halving of the resolution, are trained, counted
            from the end; 5 is all, 0 none.

    Shapes:
        images [N, 3, H, W] → ``{"<stride>": [N, out_channels, H/stride, W/stride]}``
    """

    def __init__(
        self,
        classifier: nn.Module,
        strides: Sequence[int],
        top_stride: int,
        out_channels: int,
        trainable_layers: int,
    ) -> None:
        super().__init__()
        levels = _levels(strides, top_stride)
        nodes = _strided_nodes(classifier)
        last = {stride: name for name, (stride, _) in nodes.items()}
        missing = [stride for stride in levels if stride not in last]
        if missing:
            raise ValueError(f"the backbone has maps of strides {sorted(last)}, none of {missing}")
        freeze_stages(classifier, nodes, trainable_layers)
        self.body = _body(classifier, {last[stride]: str(stride) for stride in levels})
        widths = [nodes[last[stride]][1] for stride in levels]
        self.fpn = FeaturePyramidNetwork(widths, out_channels)
        self.strides = list(strides)
        self.out_channels = out_channels
        for index, stride in enumerate(levels):
            if stride not in strides:  # merged into the others, but not returned itself
                self.fpn.layer_blocks[index] = nn.Identity()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.fpn(OrderedDict(self.body(images)))
        return OrderedDict((str(stride), maps[str(stride)]) for stride in self.strides)


def freeze_batch_norm(model: nn.Module) -> nn.Module:
    """Put ``FrozenBatchNorm2d`` in the place of every ``BatchNorm2d``; in place."""
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features, eps=child.eps)
            frozen.load_state_dict(child.state_dict())
            setattr(model, name, frozen)
        else:
            freeze_batch_norm(child)
    return model


def freeze_stages(
    classifier: nn.Module, nodes: dict[str, tuple[int, int]], trainable_layers: int
) -> None:
    """Stop the gradients of all but the last ``trainable_layers`` stages (0..5)."""
    if not 0 <= trainable_layers <= 5:
        raise ValueError(f"trainable_backbone_layers lies in 0..5, not {trainable_layers}")
    modules = dict(classifier.named_modules())
    for name, (stride, _) in nodes.items():
        if trainable_layers < 5 and stride <= 2 ** (5 - trainable_layers) and name in modules:
            modules[name].requires_grad_(False)


def _levels(strides: Sequence[int], top_stride: int) -> list[int]:
    """Every stride from the finest asked for to ``top_stride``."""
    ascending = sorted(set(strides))
    if not strides or list(strides) != ascending or top_stride < ascending[-1]:
        raise ValueError(
            f"strides ascend and end at top_stride or before, not {list(strides)} with {top_stride}"
        )
    if any(stride < 2 or stride & (stride - 1) for stride in (*strides, top_stride)):
        raise ValueError(f"strides are powers of two, not {list(strides)} and {top_stride}")
    return [2**k for k in range(1, 10) if ascending[0] <= 2**k <= top_stride]


def _strided_nodes(classifier: nn.Module) -> dict[str, tuple[int, int]]:
    """Stride and channels of every feature map that the classifier makes, in the order made."""
    try:
        names = get_graph_node_names(classifier)[1][1:]  # without the input
        probe = create_feature_extractor(classifier, {name: name for name in names}).eval()
        with torch.no_grad():
            small, large = (probe(torch.zeros(1, 3, size, size)) for size in _PROBE_SIZES)
    except Exception as error:  # whatever the model's code raises when it is traced
        raise ValueError(
            f"{type(classifier).__name__} cannot be a backbone: it takes no images of "
            f"{_PROBE_SIZES[0]} pixels or cannot be traced ({error})"
        ) from error
    classifier.train()
    # What does not grow with the image, behind an adaptive pooling say, is no feature map.
    return {
        name: (_stride(x), x.shape[1])
        for name, x in small.items()
        if torch.is_tensor(x) and x.dim() == 4 and large[name].shape[-1] > x.shape[-1]
    }


def _stride(feature_map: Tensor) -> int:
    """A power of two: unpadded convolutions make maps a little smaller than size / stride."""
    return 2 ** round(math.log2(_PROBE_SIZES[0] / feature_map.shape[-1]))


def _body(classifier: nn.Module, return_nodes: dict[str, str]) -> fx.GraphModule:
    """One graph for training and eval, so that it can be pickled and copied like any module."""
    dual = create_feature_extractor(classifier, return_nodes)
    train_code, eval_code = (
        graph.python_code("self").src for graph in (dual.train_graph, dual.eval_graph)
    )
    if train_code != eval_code:
        raise ValueError(
            f"{type(classifier).__name__} runs other code in training than in eval mode; "
            "choose another backbone"
        )
    return fx.GraphModule(dual, dual.eval_graph)
