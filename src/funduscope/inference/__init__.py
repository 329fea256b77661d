"""From a model file to the findings of a photo."""
