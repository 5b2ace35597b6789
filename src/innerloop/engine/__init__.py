"""How a model runs under each task's own weights. Neither gradients nor algorithms: they are above."""
