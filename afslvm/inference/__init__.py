"""Inference procedures: approximate posteriors q(z_t | ...) of any latent variable model."""
