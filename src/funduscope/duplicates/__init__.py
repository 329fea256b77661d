"""One photo under two names, or one eye photographed twice: found among thousands of photos by the vessels."""
