# Targets for people; `make help` lists them. Continuous integration runs .ci/run.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
MAKEFLAGS += --no-print-directory

GO ?= go
# The tools of `make lint` have a module of their own, so that what they depend
# on stays out of ours.
TOOL := $(GO) tool -modfile=tools/go.mod

# The version that the command prints. Without git, or before the first commit,
# the command says by itself that it has none.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
BUILD := $(GO) build -trimpath -buildvcs=false $(if $(VERSION),-ldflags '-X main.version=$(VERSION)')

# Every folder of plugins with a main.go is a plugin.
PLUGINS := $(patsubst %/main.go,./%,$(wildcard plugins/*/main.go))

# ONCE=1 stops the node after the tour.
ONCE ?= 0

.PHONY: bench-swap bench-crash tour build run test bench torture soak lint generate setup clean help

build: ## build bin/inos and bin/plugins/* (needs Go only)
	$(BUILD) -o bin/inos ./host/cmd/inos
	@mkdir -p bin/plugins
	$(if $(PLUGINS),$(BUILD) -o bin/plugins/ $(PLUGINS))
	@$(if $(PLUGINS),bin/inos plugin sign $(patsubst ./plugins/%,bin/plugins/%,$(PLUGINS)) || { rm -f bin/plugins/*.minisig; echo "the plugins stay unsigned: the default policy allows that" >&2; })

tour: build ## build bin/tour/greet-1, -2 and -3: the versions that the README exchanges
	@mkdir -p bin/tour
	for v in 1 2 3; do $(GO) build -trimpath -buildvcs=false -ldflags "-X main.version=$$v.0.0" -o bin/tour/greet-$$v ./integration/greet; done

run: build ## build, start a node, run the tour, stay up (ONCE=1: stop after the tour)
	bin/inos run --plugins bin/plugins --tour $(if $(filter-out 0,$(ONCE)),--once)

test: setup ## vet and test everything with the race detector
	$(GO) vet ./...
	$(GO) test -race -timeout 20m ./...

bench: ## run every Go benchmark once, with allocations
	$(GO) test -run '^$$' -bench . -benchmem ./...

bench-swap: ## how long a swap takes with 1 GiB of state and with none, and what it costs jobs
	$(GO) run ./integration/bench/swap

bench-crash: ## what a job that ends its plugin costs the others
	$(GO) run ./integration/bench/crash

bench-%: ## compare with a peer, bench-NAME
	@echo "make $@: there is no comparison named $* yet; make bench runs the benchmarks there are" >&2; exit 1

# How much torture does, and with which randomness; 0 is a new seed.
KILLS ?= 500
SWAPS ?= 200
HOSTKILLS ?= 50
BAD ?= 100
SEED ?= 0

torture: ## break a running node in every way known: KILLS=n SWAPS=n HOSTKILLS=n BAD=n SEED=s
	@mkdir -p bin
	$(GO) build -trimpath -buildvcs=false -o bin/torture ./integration/torture
	@bin/torture -kills $(KILLS) -swaps $(SWAPS) -hostkills $(HOSTKILLS) -bad $(BAD) -seed $(SEED)

soak: ## run a node under load for hours
	@echo "make $@: not built yet" >&2; exit 1

lint: ## go vet, golangci-lint, staticcheck (builds both tools the first time: minutes)
	$(GO) vet ./...
	$(TOOL) golangci-lint run
	$(TOOL) staticcheck ./...

generate: setup ## regenerate the Go of every schema
	$(GO) generate ./...

setup: ## check for what the tests need; install Debian's capnproto if it is missing
	@GO='$(GO)' scripts/setup.sh

clean: ## remove what was built
	rm -rf bin coverage*

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {sub("%", "NAME", $$1); printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
