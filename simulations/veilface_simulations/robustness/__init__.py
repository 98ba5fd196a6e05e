"""How a model behaves under each perturbation, at the threshold that clean faces gave."""
