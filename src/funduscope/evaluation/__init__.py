"""A model on labelled photos: scores by the protocol, their plots, parity of two forms, cost."""
