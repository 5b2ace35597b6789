"""innerloop: gradient-based meta-learning on PyTorch Lightning and Hydra. Start reading at episode.py."""

__version__ = "0.2.0"
