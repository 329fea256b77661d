"""A model on labeled photos: scores by the protocol, their plots, parity of two forms, cost."""
