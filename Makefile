# Everything runs in a locked environment under .venv; uv is the one tool that is fetched for it.
UV_VERSION := 0.13.9
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
RUN := .venv/bin/

# Tests start hundreds of processes: without bytecode each would compile its libraries anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test test-all lint types layers generate check-generated bench clean

setup: .venv/.synced ## The locked environment

.tools/bin/uv:
	python3 -m venv .tools
	.tools/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.synced: pyproject.toml uv.lock $(filter .tools/%,$(UV))
	$(UV) sync --locked --all-extras
	@touch $@

# The day is synthetic (scripts/make_day.py); at 360 times the speed it lasts four minutes.
demo: setup ## Compress a real model under a replayed day
	@rm -rf out/demo
	@if $(RUN)python -m green_jobs fetch fashion-mnist; then job=shrink-vision; else \
	    echo "Fashion-MNIST is not to be had here: going on with scikit-learn's digits"; \
	    job=shrink-digits; fi; \
	$(RUN)greenctl run examples/$$job.yaml --trace demo=examples/sunny-day.csv --speed 360 \
	    --output out/demo

# First what needs no tests, side by side: Go wants the processors, what is fetched the network.
# The long matrices run as seeded samples here, whole in test-all. Tests against a cluster mostly
# wait, so four of them run at a time; those of Flower's processes wait half of their time, and the
# rest want the machine for themselves.
test: ## Everything that CI runs
	@$(MAKE) --no-print-directory --jobs programs helm panels lint types layers check-generated
	$(RUN)pytest -n 4 tests/cluster tests/chart
	$(RUN)pytest tests/node
	$(RUN)pytest -n 2 --dist loadfile tests/federate
	$(RUN)pytest --ignore=tests/cluster --ignore=tests/chart --ignore=tests/node \
	    --ignore=tests/federate

test-all: export GREEN_MATRIX := all
test-all: test ## With the whole matrices

.PHONY: system-packages
system-packages:
	@scripts/system-packages tests/debian-packages

# The control plane of the cluster tests, and what the node's tests need beyond that (root), built once
# per machine into the user's cache; the node's come first, so that Go builds all at once.
.PHONY: programs
programs: setup system-packages
	@$(RUN)python -m tests.node.harness.programs
	@$(RUN)python -m tests.cluster.harness.programs

# The helm programs of the chart's tests; where they cannot be had, the tests say so.
.PHONY: helm
helm: setup
	@$(RUN)python -m scripts.get_helm || true

# Grafana's components, which draw the dashboards' panels in a browser.
.PHONY: panels pictures
panels: tests/browser/node_modules/.installed

tests/browser/node_modules/.installed: tests/browser/package-lock.json | system-packages
	if command -v npm >/dev/null; then cd tests/browser && \
	    npm ci --no-audit --no-fund --loglevel=error && touch node_modules/.installed; \
	else echo "npm is missing: the panels are not drawn" >&2; fi

pictures: setup panels ## The dashboards' pictures in docs/images, drawn anew
	UPDATE_PICTURES=1 $(RUN)pytest tests/monitoring/test_panels.py

BASE ?= docker.io/library/python:3.11-slim
BUILD := $(if $(shell command -v buildah),buildah bud,docker buildx build)
IMAGES := ghcr.io/greentraining
VERSION := 0.1.0

.PHONY: images wheels
images: ## Images of operator and jobs (TARGET=light leaves PyTorch out)
	$(BUILD) --build-arg BASE=$(BASE) \
	    $(if $(wildcard build/wheels/operator),--build-context wheels=build/wheels/operator) \
	    -t $(IMAGES)/operator:$(VERSION) -f operator/Containerfile .
	$(BUILD) --build-arg BASE=$(BASE) $(if $(TARGET),--target $(TARGET)) \
	    $(if $(wildcard build/wheels/jobs),--build-context wheels=build/wheels/jobs) \
	    -t $(IMAGES)/jobs:$(VERSION) -f jobs/Containerfile .

wheels: setup build/wheels/operator build/wheels/jobs ## For image builds that reach no index

build/wheels/%: uv.lock
	mkdir -p $@
	$(UV) export --quiet --locked --no-dev --no-emit-project --extra $* \
	    $(if $(filter jobs,$*),--extra federated --prune torch) --output-file $@/requirements.txt
	python3 -m pip download --quiet --no-deps --require-hashes --only-binary :all: \
	    --python-version 3.11 --implementation cp --platform manylinux2014_x86_64 \
	    --platform manylinux_2_28_x86_64 --dest $@ -r $@/requirements.txt
	python3 -m pip download --quiet --no-deps --only-binary :all: \
	    --platform manylinux2014_x86_64 --dest $@ uv==$(UV_VERSION)

lint: setup
	$(RUN)ruff check
	$(RUN)ruff format --check

types: setup
	$(RUN)mypy

layers: setup
	$(RUN)lint-imports

generate: setup ## Write what is generated from the types and the collectors
	$(RUN)python scripts/generate.py

check-generated: setup
	$(RUN)python scripts/generate.py --check

bench: setup bench-overhead bench-operator bench-metrics bench-federated ## All benchmarks; results under build/bench

bench-%: setup
	$(RUN)python -m tests.benchmarks.$*

clean:
	rm -rf .venv .tools build out
