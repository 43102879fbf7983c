# Two commands: `make demo` runs the main job, `make test` runs the tests. Both make .venv and install.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# What the metrics are compared with. Outside the environment and without dependencies: see docs/install.md, torchvision.
REFERENCES := $(VENV)/references
# An S3 server for the tests, apart from everything else: it wants other versions of what is installed.
S3_SERVER := $(VENV)/s3-server
# Low-rank adaptations and Whisper are compared with peft and transformers, which would slow every other start.
PEFT := $(VENV)/peft

.PHONY: demo test long lint docs performance clean

demo: $(STAMP)
	$(BIN)/bench run --split synthetic --subset 16 --metrics defaults,speed/offline_v1

test: lint $(REFERENCES)/.installed
	BENCH_REFERENCES=$(abspath $(REFERENCES)) $(BIN)/python -m pytest -n 2 --dist loadgroup

# What takes minutes: two machines without a shared disk (needs root), training that loses a worker of two.
long: $(STAMP) $(S3_SERVER)/.installed $(PEFT)/.installed
	BENCH_S3_SERVER=$(abspath $(S3_SERVER)) $(BIN)/python -m pytest -m long -n 0 tests
	PYTHONPATH=$(abspath $(PEFT)) $(BIN)/python -m pytest -n 0 -k 'low_rank or whisper' \
		tests/unit/actalker tests/unit/actalker_training

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/python -m typer bench.cli utils docs --name bench --title "The bench command" --output docs/cli.md
	$(BIN)/python docs/make_reference.py

performance: $(STAMP)
	$(BIN)/python -m pytest -m performance -s -n 0 tests/performance

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[faces,dev,train]'
	touch $(STAMP)

$(REFERENCES)/.installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(REFERENCES) \
		-c constraints.txt torchvision pytorch-fid lpips syncnet-python ffmpeg-python future 'scenedetect<0.7' cd-fvd
	touch $@

$(S3_SERVER)/.installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target $(S3_SERVER) \
		moto==5.2.5 flask==3.1.3 flask-cors==6.0.5
	touch $@

$(PEFT)/.installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(PEFT) \
		-c constraints.txt peft accelerate transformers tokenizers regex
	touch $@

clean:
	rm -rf $(VENV) .bench build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
