"""One clip through the package's Python interface, which has no command line of its own. Not run."""

import argparse

import sda

parser = argparse.ArgumentParser()
parser.add_argument("--image", required=True)
parser.add_argument("--audio", required=True)
parser.add_argument("--out", required=True)
arguments = parser.parse_args()

animator = sda.VideoAnimator(gpu=0, model_path="crema")
video, audio = animator(arguments.image, arguments.audio)
animator.save_video(video, audio, arguments.out)
