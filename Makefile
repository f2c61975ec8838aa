# The entry points of the project. Each target installs what it needs into .venv.
#
#   make serve         the service on 127.0.0.1:3000 with the shipped model (PORT=...)
#   make install       the packages of training, tests and lint into .venv
#   make test          every behaviour, in minutes (SEED=2 for another order)
#   make acceptance    what takes longer: training, tutorials, browser, documents, clusters, roll-outs
#   make lint          style and types; make fix corrects what ruff can
#   make train         the sample, the shipped model and its report, from nothing
#   make docs          the parts of the documents that come from the card of the shipped model
#   make docs-site     the documents and the reference of the API as a site, in build/docs
#   make bench         the speed of the service; make bench-peers  compared with other servers of the same model
#   make attack        100,000 hostile requests against a service
#   make soak          half an hour of load
#   make chaos         kills, shutdowns, overload, roll-outs
#   make fuzz          mutated bytes against all decoders
#   make audit         the locked requirements against the known vulnerabilities
#   make sbom          the components of the service: dist/sbom.cdx.json
#   make dist          the wheel and the source distribution, checked: dist/packages
#   make image         the service as the image photoz; make image-training  the training as photoz-training (docker or podman)
#   make image-check   checks of the image; make image-sbom  its components: dist/image.cdx.json
#   make bento         a bento with the shipped model (MODEL=models/mine for another), in BentoML's model store
#   make lock          the hash-locked requirements, from pyproject.toml
#   make clean         removes .venv and all that was built

PYTHON ?= python3
PORT ?= 3000
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
# uv installs the same locked files as pip, in a sixth of its time. UV_DEFAULT_INDEX names another index.
UV := $(BIN)/uv pip install --quiet

export PYTHONPATH := .:clients/python
# BentoML reports its use unless this is exactly "true".
export BENTOML_DO_NOT_TRACK := true

.PHONY: help serve install test acceptance lint fix train docs docs-site audit sbom dist fuzz attack soak chaos bench bench-peers image image-training \
	image-check image-sbom bento lock clean

help:
	@sed -n '3,23s/^# *//p' Makefile

$(STAMPS):
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/uv.txt
	mkdir -p $(STAMPS)

# A set of requirements: the packages of requirements/SET.txt, with hashes, then this project itself without dependencies.
$(STAMPS)/%: requirements/%.txt pyproject.toml | $(STAMPS)
	@echo "Installing requirements/$*.txt into $(VENV) ..."
	$(UV) --python $(BIN)/python --require-hashes -r requirements/$*.txt
	$(UV) --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

serve: $(STAMPS)/service
	@echo "photoz starts on http://127.0.0.1:$(PORT): open it in a browser, or from another terminal:"
	@echo "  curl --data-binary @examples/cutouts.npz http://127.0.0.1:$(PORT)/predict_file"
	@echo "  $(BIN)/photoz predict examples/cutouts.npz --url http://127.0.0.1:$(PORT)"
	@$(BIN)/python -m service serve --port $(PORT)

install: $(STAMPS)/dev

# Two test processes (pyproject.toml) on two cores, one thread each. The order of the tests is drawn with the seed SEED.
SEED := 1
PYTEST := OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 $(BIN)/python -m pytest
test: $(STAMPS)/dev
	$(PYTEST) -m "not acceptance" --randomly-seed=$(SEED)

acceptance: $(STAMPS)/all
	$(PYTEST) -m "acceptance and not container" --randomly-seed=$(SEED)

lint: $(STAMPS)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.citation-file-format CITATION.cff
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/ci.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[bq]*.yml

fix: $(STAMPS)/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

data/sample.h5: | $(STAMPS)/dev
	$(BIN)/python -m training sample $@ --renders 6

train: data/sample.h5
	$(BIN)/python -m training train --data data/sample.h5 --bundle models/photoz --epochs 12 --folds 4 --resume

docs: data/sample.h5
	$(BIN)/python docs/make.py

docs-site: $(STAMPS)/docs
	$(BIN)/python -m sphinx -c docs --fresh-env --fail-on-warning --quiet . build/docs

# SECONDS is for each of the six targets. The first findings came within seconds, the last after hours.
SECONDS := 900
fuzz: $(STAMPS)/dev requirements/fuzz.txt
	$(UV) --python $(BIN)/python --require-hashes -r requirements/fuzz.txt
	for target in open_inference file json compression; do \
		$(BIN)/python -m tests.attack.fuzz $$target --seconds $(SECONDS) --seed $(SEED) --corpus runs/fuzz/$$target || exit 1; \
	done
	for format in fits hdf5; do \
		$(BIN)/python -m tests.attack.fuzz_described_files $$format --seconds $(SECONDS) --seed $(SEED) || exit 1; \
	done

attack: $(STAMPS)/dev
	$(BIN)/python -m benchmarks.resilience hostile

soak: $(STAMPS)/dev
	$(BIN)/python -m benchmarks.resilience soak

chaos: $(STAMPS)/dev
	for name in kills drain overload rollout; do $(BIN)/python -m benchmarks.resilience $$name || failed=1; done; exit $${failed:-0}

bench: $(STAMPS)/dev
	$(BIN)/python -m benchmarks.speed

bench-peers: $(STAMPS)/all
	$(BIN)/python -m benchmarks.peers.install
	$(BIN)/python -m benchmarks.peers

# Tools that inspect the requirements, in their own environment, so that their dependencies do not constrain ours.
AUDIT := $(VENV)/audit/bin
$(STAMPS)/audit: requirements/audit.txt | $(STAMPS)
	$(PYTHON) -m venv --clear $(VENV)/audit
	$(UV) --python $(AUDIT)/python --require-hashes -r requirements/audit.txt
	touch $@

# An environment with the serving requirements alone: .venv may also contain those of tests and training.
$(STAMPS)/served: requirements/service.txt $(STAMPS)/audit
	$(PYTHON) -m venv --clear --without-pip $(VENV)/served
	$(UV) --python $(VENV)/served/bin/python --require-hashes -r requirements/service.txt
	touch $@

audit: $(STAMPS)/audit
	$(AUDIT)/python requirements/audit.py requirements/service.txt requirements/all.txt requirements/audit.txt

sbom: $(STAMPS)/served
	mkdir -p dist
	env -u PYTHONPATH $(AUDIT)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file dist/sbom.cdx.json $(VENV)/served/bin/python

# The tools that build and check packages.
$(STAMPS)/dist: requirements/dist.txt | $(STAMPS)
	$(PYTHON) -m venv --clear $(VENV)/dist
	$(UV) --python $(VENV)/dist/bin/python --require-hashes -r requirements/dist.txt
	touch $@

dist: $(STAMPS)/dist
	SOURCE_DATE_EPOCH=$(COMMITTED) $(VENV)/dist/bin/python requirements/dist.py dist/packages

# Two builds of one commit are identical, byte by byte; podman also sets the commit's time on the files.
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

image-check: $(STAMPS)/dev
	PHOTOZ_IMAGE=$(IMAGE) CONTAINER_ENGINE=$(ENGINE) $(BIN)/python -m pytest --numprocesses=0 -m container tests/container

image-sbom: $(STAMPS)/audit
	mkdir -p dist
	$(AUDIT)/python requirements/image_sbom.py $(IMAGE) dist/image.cdx.json --engine $(ENGINE)

MODEL ?= models/photoz
bento: $(STAMPS)/bento
	$(BIN)/python -m service store build $(MODEL)

lock: | $(STAMPS)
	$(BIN)/python requirements/lock.py

clean:
	rm -rf $(VENV) build dist *.egg-info
