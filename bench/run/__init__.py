"""One run from plan to rows: what is missing, driving the executor, preparing data sets, checking machines."""
