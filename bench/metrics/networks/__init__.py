"""Reference networks behind the metrics, in plain torch, with the official state-dict key names."""

LPIPS_FILES = {"alex": ("alexnet", "lpips_alex"), "vgg": ("vgg16", "lpips_vgg")}
"""Weight files of each trunk of LPIPS: the trunk itself, then the learned weights of its layers."""
