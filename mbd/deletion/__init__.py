"""A model and a revocation in, a model, a guarantee and the evidence out. It signs nothing and records nothing."""
