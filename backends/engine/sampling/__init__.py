"""Sampling with keyed noise: candidates, filters and the sampler. The verifiers of speculation call it."""
