"""Meta-learning algorithms and baselines, one file each: adapt to a support set, predict the queries. To add one, see base.py.

Not here: the outer loop (training/).
"""
