"""The baseline that learns nothing beforehand."""

from innerloop.algorithms.maml import MAML


class Scratch(MAML):
    """A random initialisation, adapted on the support set by the same inner loop. There is no outer loop."""

    learns = False
