# The doors of the project. Each one makes what it needs; the file that says so is its own stamp.
#
#   make serve    the service on 127.0.0.1:3000 with the shipped model
#   make test     all tests            make lint    style and types
#   make train    the sample, the model that ships and its report, from nothing
#   make docs     what the documents say of the shipped model, from its card
#   make audit    the locked requirements against the known vulnerabilities
#   make sbom     what the service consists of: dist/sbom.cdx.json
#   make fuzz     mutated bytes against all that decodes; make attack  100,000 hostile requests against a service
#   make soak     half an hour of load                    make chaos   kills, ends, overload, slow senders, roll-outs
#   make bench    measurements         make bench-peers    the service beside other servers of the same model
#   make image    the service as an image, photoz; make image-training  the training, photoz-training; with docker or podman
#   make image-check  whether that image keeps its promises; make image-sbom  what it consists of: dist/image.cdx.json
#   make bento    a bento with the model that ships (MODEL=models/mine: another), which goes into BentoML's model store
#   make lock     the hash-locked requirements, from pyproject.toml

PYTHON ?= python3
PORT ?= 3000
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

export PYTHONPATH := .:clients/python
# BentoML reports its use unless this says exactly "true".
export BENTOML_DO_NOT_TRACK := true

.PHONY: help serve test lint fix train docs audit sbom fuzz attack soak chaos bench bench-peers image image-training image-check \
	image-sbom bento lock clean

help:
	@sed -n '3,17s/^# *//p' Makefile

$(STAMPS):
	$(PYTHON) -m venv $(VENV)
	mkdir -p $(STAMPS)

# Requirements by set: what is listed in requirements/SET.txt, with hashes, then this project itself without more.
$(STAMPS)/%: requirements/%.txt pyproject.toml | $(STAMPS)
	@echo "Installing requirements/$*.txt into $(VENV) ..."
	$(PIP) install --require-hashes -r requirements/$*.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

serve: $(STAMPS)/service
	@$(BIN)/python -m service --hints --port $(PORT)

# Two test processes on two cores, a thread each.
test: $(STAMPS)/all
	OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 $(BIN)/python -m pytest

lint: $(STAMPS)/all
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

fix: $(STAMPS)/all
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

data/sample.h5: | $(STAMPS)/all
	$(BIN)/python -m training sample $@ --renders 4

train: data/sample.h5
	$(BIN)/python -m training train --data data/sample.h5 --bundle models/photoz --epochs 6 --seeds 3 --folds 4 --resume

docs: data/sample.h5
	$(BIN)/python docs/make.py

# The first findings came within seconds, the last after hours: SECONDS is for each of the four.
SECONDS := 900
fuzz: $(STAMPS)/all requirements/fuzz.txt
	$(PIP) install --require-hashes -r requirements/fuzz.txt
	for target in open_inference file json compression; do \
		$(BIN)/python -m tests.attack.fuzz $$target --seconds $(SECONDS) --corpus runs/fuzz/$$target || exit 1; \
	done

attack: $(STAMPS)/all
	$(BIN)/python -m benchmarks.endurance hostile

soak: $(STAMPS)/all
	$(BIN)/python -m benchmarks.endurance soak

chaos: $(STAMPS)/all
	for name in kills drain overload slow rollout; do $(BIN)/python -m benchmarks.endurance $$name || failed=1; done; exit $${failed:-0}

bench: $(STAMPS)/all
	$(BIN)/python -m benchmarks

bench-peers: $(STAMPS)/all
	$(BIN)/python -m benchmarks.peers.install
	$(BIN)/python -m benchmarks.peers

# Tools that look at the others from outside: in a place of their own, lest what they need decides what we get.
AUDIT := $(VENV)/audit/bin
$(STAMPS)/audit: requirements/audit.txt | $(STAMPS)
	$(PYTHON) -m venv --clear $(VENV)/audit
	$(AUDIT)/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/audit.txt
	touch $@

# What serves and nothing else: beside it, .venv may hold what tests and training need.
$(STAMPS)/served: requirements/service.txt $(STAMPS)/audit
	$(PYTHON) -m venv --clear --without-pip $(VENV)/served
	$(AUDIT)/python -m pip --python $(VENV)/served/bin/python --disable-pip-version-check --quiet install \
		--no-compile --require-hashes -r requirements/service.txt
	touch $@

audit: $(STAMPS)/audit
	$(AUDIT)/python requirements/audit.py requirements/service.txt requirements/all.txt requirements/audit.txt

sbom: $(STAMPS)/served
	mkdir -p dist
	env -u PYTHONPATH $(AUDIT)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file dist/sbom.cdx.json $(VENV)/served/bin/python

# Two builds of one commit are the same, byte by byte; podman writes the commit's time on the files too.
ENGINE = $(shell for engine in docker podman; do $$engine info >/dev/null 2>&1 && echo $$engine && break; done)
COMMITTED := $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
BUILD = $(if $(ENGINE),$(ENGINE),$(error neither docker nor podman runs here)) build \
	$(if $(findstring podman,$(ENGINE)),--format docker --timestamp $(COMMITTED)) $(BUILD_OPTIONS) \
	--build-arg VERSION=$(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' photoz/__init__.py) \
	--build-arg REVISION=$(shell git describe --always --dirty --abbrev=40 2>/dev/null || echo unknown)
IMAGE ?= photoz

image:
	SOURCE_DATE_EPOCH=$(COMMITTED) $(BUILD) --tag $(IMAGE) .

image-training:
	SOURCE_DATE_EPOCH=$(COMMITTED) $(BUILD) --target training --tag $(IMAGE)-training .

image-check: $(STAMPS)/all
	PHOTOZ_IMAGE=$(IMAGE) CONTAINER_ENGINE=$(ENGINE) $(BIN)/python -m pytest --numprocesses=0 -m container tests/container

image-sbom: $(STAMPS)/audit
	mkdir -p dist
	$(AUDIT)/python requirements/image_sbom.py $(IMAGE) dist/image.cdx.json --engine $(ENGINE)

MODEL ?= models/photoz
bento: $(STAMPS)/bento
	$(BIN)/python -m service.store build $(MODEL)

lock: $(STAMPS)/lock
	$(BIN)/python requirements/lock.py

$(STAMPS)/lock: | $(STAMPS)
	$(PIP) install "uv>=0.5"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
