"""Reference networks behind the metrics, in plain torch, with the official state-dict key names."""
