"""Networks, one file each. To add one: a class that takes `input_shape` and `outputs`, and a YAML in conf/model/.

Not here: how a model runs under each task's own weights (engine/).
"""
