"""From bytes to an upright photo, its field of view, and the square frame that is cut around it."""
