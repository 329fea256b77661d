"""One photo under two names, or one eye photographed twice: found among thousands by the vessels."""
