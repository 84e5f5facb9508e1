# Two commands do all the set-up: `make demo` and `make test`.  Everything is installed into .venv on first use.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
STOCK := .venv-stock
OPENDHT := .venv-opendht
FUZZ := .venv-fuzz
# `make fuzz`: inputs for each harness, once drawn and once chosen by atheris.  Memory is watched from 200000 on.
FUZZ_RUNS ?= 250000
FUZZ_TARGETS ?= datagrams http_requests configuration
FUZZ_SEED ?= 1
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml node/pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found; name a Python 3.11 with PYTHON=…" >&2; exit 1; }
	@echo "installing into $(VENV) (once)"
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)  # pip is the last thing that venv makes
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e node
	@touch $@

.PHONY: venv
venv: $(STAMP) ## install everything into .venv

$(STOCK)/.installed: tests/interop/requirements.lock
	@echo "installing the stock implementation into $(STOCK) (once, for the interoperability tests)"
	@test -x $(STOCK)/bin/pip || $(PYTHON) -m venv --clear $(STOCK)
	@$(STOCK)/bin/python -m pip install --quiet --no-deps --require-hashes -r tests/interop/requirements.lock
	@touch $@

$(OPENDHT)/.installed: bench/requirements-opendht.lock
	@echo "installing OpenDHT into $(OPENDHT) (once, for the benchmarks)"
	@test -x $(OPENDHT)/bin/pip || $(PYTHON) -m venv --clear $(OPENDHT)
	@$(OPENDHT)/bin/python -m pip install --quiet --no-deps --require-hashes -r bench/requirements-opendht.lock
	@touch $@

$(FUZZ)/.installed: tests/fuzz/requirements.lock
	@echo "installing atheris into $(FUZZ) (once, for fuzzing)"
	@test -x $(FUZZ)/bin/pip || $(PYTHON) -m venv --clear $(FUZZ)
	@$(FUZZ)/bin/python -m pip install --quiet --no-deps --require-hashes -r tests/fuzz/requirements.lock
	@touch $@

.PHONY: demo
demo: $(STAMP) ## the main job: 8 peers deployed, churned, judged, gone again
	@$(BIN)/fab demo

.PHONY: test
test: $(STAMP) $(STOCK)/.installed ## every test that needs no root
	@$(BIN)/trial --temp-directory .cache/trial kademlia
	@$(BIN)/pytest -m "not root"

.PHONY: lint
lint: $(STAMP) ## ruff, mypy --strict, ansible-lint, yamllint, shellcheck
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict node/kademlia
	@$(BIN)/mypy --strict scenarios
	@$(BIN)/ansible-lint --offline --profile production deploy.yml provisioning
	@$(BIN)/yamllint --strict inventory provisioning deploy.yml
	@$(BIN)/shellcheck .ci/run provisioning/box/build-lxc provisioning/box/customize provisioning/box/install-requirements \
	    provisioning/box/lxc-template tests/machines/isolated

.PHONY: test-machines
test-machines: $(STAMP) ## vagrant up to vagrant destroy on real containers; needs root and provisioning/box/install-requirements
	@$(BIN)/pytest -m root tests/machines

.PHONY: box-lxc
box-lxc: ## build the box for LXC from Debian packages; needs root
	@provisioning/box/build-lxc

.PHONY: bench
bench: $(STAMP) $(STOCK)/.installed $(OPENDHT)/.installed ## measure ours beside kademlia 2.2.3 and OpenDHT (a quarter of an hour)
	@$(BIN)/python bench/run.py

.PHONY: fuzz
fuzz: $(STAMP) $(FUZZ)/.installed ## datagrams, HTTP requests, configurations at random and guided (ten minutes; FUZZ_RUNS=…)
	@$(BIN)/pytest -q tests/fuzz
	@mkdir -p .cache/fuzz
	@for name in $(FUZZ_TARGETS); do \
	    run="tests/fuzz/$$name.py --runs $(FUZZ_RUNS) --seed $(FUZZ_SEED)"; log=.cache/fuzz/$$name.log; \
	    echo "$$name, drawn:"; $(BIN)/python $$run || exit 1; \
	    echo "$$name, guided: (in $$log)"; \
	    PYTHONPATH=node $(FUZZ)/bin/python $$run --atheris .cache/fuzz/$$name >$$log 2>&1 || { tail -n 40 $$log; exit 1; }; \
	    grep -E '^ok|(INITED|DONE) ' $$log; \
	done

.PHONY: clean
clean: ## remove what make installed and the tests left; results stay
	@rm -rf $(VENV) $(STOCK) $(OPENDHT) $(FUZZ) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: lock
lock: ## renew requirements.lock, node/requirements.lock and tests/fuzz/requirements.lock (the only target that resolves versions)
	@$(PYTHON) -m venv .cache/lock && .cache/lock/bin/pip install --quiet uv
	@sed '/"kademlia-node"/d' pyproject.toml > .cache/lock/pyproject.toml
	@.cache/lock/bin/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header --extra dev \
	    -o requirements.lock .cache/lock/pyproject.toml node/pyproject.toml
	@.cache/lock/bin/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header \
	    -c requirements.lock -o node/requirements.lock node/pyproject.toml
	@.cache/lock/bin/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header \
	    -c node/requirements.lock -o tests/fuzz/requirements.lock tests/fuzz/requirements.in node/pyproject.toml
