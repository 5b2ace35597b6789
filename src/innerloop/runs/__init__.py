"""One run, from its configuration to results.json, and what is done with it afterwards.

Not here: several runs side by side (reports/), and how they are started (sweeps/).
"""
