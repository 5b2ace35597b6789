"""The outer loop, as Lightning sees it: episodes in, outer gradients, checkpoints, evaluation.

Not here: what one run is from its configuration to its results (runs/).
"""
