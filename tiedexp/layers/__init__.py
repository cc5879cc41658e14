"""Keras layers whose kernels are tied by a pattern.

Begin with tied_conv.py; tied_layer.py is what it shares with tied_depthwise_conv.py. Importing this package imports
Keras and registers the layers, so that Keras loads models that have them.
"""

from tiedexp.backend import require_tensorflow

require_tensorflow()

from tiedexp.layers.padded_shortcut import PaddedShortcut  # noqa: E402
from tiedexp.layers.tied_conv import TiedConv2D  # noqa: E402
from tiedexp.layers.tied_depthwise_conv import TiedDepthwiseConv2D  # noqa: E402

__all__ = ["PaddedShortcut", "TiedConv2D", "TiedDepthwiseConv2D"]
