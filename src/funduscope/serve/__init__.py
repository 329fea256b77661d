"""The HTTP service: a front process that speaks HTTP and limits requests, and a worker process that has the model."""
