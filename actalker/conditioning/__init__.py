"""Networks that turn portrait, speech and driving video into the UNet's conditions."""
