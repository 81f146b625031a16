//! Health probes, one keeper per worker.
