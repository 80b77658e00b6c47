# Everything a fresh machine with Python 3.11+ needs is installed by these targets, into .venv and .venv-functions.
PYTHON ?= python3
VENV := .venv
# What the images of predictor and functions hold: no trainer, so that what is proven on a laptop is proven of it too.
FUNCTIONS := .venv-functions
# Clients of other servers, for the tests: their pins do not go with ours.
CLIENTS := .venv-clients
ROOMS := eventing functions trainers knative monitoring headrace
BIN := $(VENV)/bin
UV := $(BIN)/uv

# Where etcd, kube-apiserver and kubectl are, for the tests that talk to a real API server.
PROGRAMS := $(or $(CLUSTER_BIN),$(HOME)/.cache/headrace/cluster-bin)
# What says how they are built, with src/kubernetes/go.mod and tools.go; and what makes a whole cluster of this machine's own.
CLUSTER_KIT ?= ../shared/cluster

.PHONY: demo test check browser promtool apiserver setup wheel locks images base-image e2e bad-days operators bench fuzz conformance clean

demo: setup ## the loop on real flights, from dropped file to retraining
	$(BIN)/headrace demo

test: setup browser promtool apiserver ## the whole test suite
	$(BIN)/python -m pytest

check: setup ## style, types, walls between the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Compiled ahead, as in an image: where Python may not write, every process that starts would compile the rooms anew.
setup: $(VENV)/.installed $(FUNCTIONS)/.installed $(CLIENTS)/.installed
	@$(BIN)/python -m compileall -q $(ROOMS)

browser: ## the page's tests look at it in a real browser: Debian's, where this machine lets us install it
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } || \
	  echo "no chromium here, and no way to install it: the page's tests will say so"

promtool: $(VENV)/.installed ## what is scraped is checked by Prometheus' own tool, taken out of Debian's package: nothing runs
	@command -v promtool >/dev/null || test -x $(BIN)/promtool || ( cd $(VENV) && \
	  { [ "$$(id -u)" != 0 ] || apt-get update -qq; } && apt-get download -qq prometheus && \
	  dpkg --fsys-tarfile prometheus_*.deb | tar -x --strip-components=2 ./usr/bin/promtool && \
	  rm prometheus_*.deb ) 2>/dev/null || \
	  echo "no promtool here, and no way to fetch it: the metrics' tests will say so"

apiserver: ## etcd and kube-apiserver out of Go modules, once: minutes; Knative's definitions come from modules, too
	@tests/apiserver/build "$(CLUSTER_KIT)" "$(PROGRAMS)" || \
	  echo "no API server here, and no way to build one: the tests that want it will say so"

$(UV):
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.installed: pyproject.toml Makefile | $(UV)
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python -e '.[dev]'
	touch $@

$(FUNCTIONS)/.installed: pyproject.toml Makefile | $(UV)
	$(UV) venv --quiet --allow-existing --python $(BIN)/python $(FUNCTIONS)
	$(UV) pip install --quiet --compile-bytecode --python $(FUNCTIONS)/bin/python -e '.[predictor,functions]'
	touch $@

$(CLIENTS)/.installed: Makefile | $(UV)
	$(UV) venv --quiet --allow-existing --python $(BIN)/python $(CLIENTS)
	$(UV) pip install --quiet --python $(CLIENTS)/bin/python 'kserve>=0.21' 'tritonclient[http,grpc]>=2.73'
	touch $@

wheel: setup
	$(BIN)/python -m build --wheel --no-isolation

# Extras and group of pyproject.toml bear these names. What a lock file pins stays until UPGRADE=1.
LOCK := $(UV) pip compile --quiet --generate-hashes --python-version 3.11 --python-platform linux \
  --custom-compile-command 'make locks' $(if $(UPGRADE),--upgrade)
LOCKS := deploy/images/locks

locks: $(UV) ## what the images hold, file by file; UPGRADE=1 takes the newest
	for image in predictor functions trainers; do $(LOCK) --extra $$image -o $(LOCKS)/$$image.txt pyproject.toml || exit; done
	$(LOCK) --group pyproject.toml:images -o $(LOCKS)/tools.txt

# REPO, VERSION, ENGINE, BASE and ARCHIVES are told in the program itself.
images: ## the three images, with buildah, podman or docker
	deploy/images/build

base-image: ## what the images are FROM, out of Debian's packages, where no registry can be reached; buildah besides
	@{ command -v buildah && command -v mmdebstrap; } >/dev/null || { apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends buildah mmdebstrap >/dev/null; }
	tests/images/base

# A cluster of this machine's own, by a kit that makes one, with KEEP=1 left running; or any other by its kubeconfig:
#   make e2e KUBECONFIG=FILE IMAGES=registry.example/headrace:0.1.0 GATEWAY=HOST:PORT
E2E = $(BIN)/python -m tests.e2e $(if $(filter command line,$(origin KUBECONFIG)), \
  --kubeconfig $(KUBECONFIG) --images '$(IMAGES)' --gateway '$(GATEWAY)',--kit $(CLUSTER_KIT)) $(if $(KEEP),--keep)

e2e: setup ## the same YAML on a real Kubernetes with Knative: images, deploy, the loop, conformance; root for the kit
	$(E2E)

bad-days: setup ## the same, while parts of the cluster fail
	$(E2E) --bad-days

operators: setup ## overlays with KEDA, prometheus-adapter and Kubeflow Trainer, built from their modules once per machine
	$(E2E) --operators

clean:
	rm -rf $(VENV) $(FUNCTIONS) $(CLIENTS) dist build

# Other servers to be measured beside: a folder with `peers`, which installs them, and `bench`, which asks them.
PEERS ?= ../shared/bench

bench: setup ## every benchmark, the peers beside it, into docs/benchmarks.md; a quarter of an hour
	@[ ! -x $(PEERS)/peers ] || $(PEERS)/peers
	$(BIN)/python -m tests.bench

conformance: setup ## what the laptop promises and, with KUBECONFIG=FILE, a cluster, into docs/conformance.md
	CONFORMANCE_REPORT=docs/conformance.md $(BIN)/python -m pytest tests/conformance \
	  -m '$(if $(filter command line,$(origin KUBECONFIG)),cluster or not cluster,not cluster)'

fuzz: setup ## 120,000 malformed requests, counted by what was answered
	$(BIN)/python -m tests.fuzz
