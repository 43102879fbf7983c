"""One clip through the package's Python interface, which has no command line of its own. Not run."""

import argparse
import os
import sys

sys.path.insert(0, os.getcwd())  # the repository: its package finds the weights beside itself
import sda

parser = argparse.ArgumentParser()
parser.add_argument("--image", required=True)
parser.add_argument("--audio", required=True)
parser.add_argument("--out", required=True)
parser.add_argument("--gpu", type=int, default=0, help="-1: none")
arguments = parser.parse_args()

animator = sda.VideoAnimator(gpu=arguments.gpu, model_path="crema")
video, audio = animator(arguments.image, arguments.audio)
animator.save_video(video, audio, arguments.out)
