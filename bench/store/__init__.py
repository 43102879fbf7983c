"""Results on disk: content-addressed blobs, one atomic JSON record per finished job, rows for tables."""
