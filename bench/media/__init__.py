"""Decoding, encoding, audio and faces: the only place that touches PyAV and MediaPipe."""
