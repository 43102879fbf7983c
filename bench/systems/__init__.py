"""Outside systems: each described by a contract, run in its own environment, judged by the video it leaves."""
