"""Networks to freeze: small, plain and named after their papers. Any other module does as well.

Args:
    shape: of one input, without the batch: (C, H, W) of images, (T, D) of sequences.
    outputs: logits per input.
    bias: whether layers have biases where no norm follows.

"""

from tasks.networks.conv import conv
from tasks.networks.decoder import decoder
from tasks.networks.lstm import Lstm
from tasks.networks.mlp import BatchAtHand, mlp
from tasks.networks.resnet import ResNet
from tasks.networks.vgg import vgg
from tasks.networks.wide_resnet import WideResNet

__all__ = ["BatchAtHand", "Lstm", "ResNet", "WideResNet", "conv", "decoder", "mlp", "vgg"]
