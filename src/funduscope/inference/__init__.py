"""From a model's file to what was found in a photo."""
