# Weir: everything that a newcomer or the CI runs. `make help` lists it.

CARGO ?= cargo
.DEFAULT_GOAL := help
.PHONY: help build demo experiment test test-long check bench

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the router, the sidecar, the command line and the testbed, optimised
	@testbed/install.sh
	$(CARGO) build --release --workspace --bins

demo: ## Run the main job: four hosts, real traffic, 1 -> 4 -> 1 instances, nothing lost (root)
	@testbed/install.sh --root
	$(CARGO) build --release --workspace --bins
	target/release/weir-testbed demo

experiment: ## Move 489 HTTP flows between two intrusion detections, beside OpenNF's figures (root)
	@testbed/install.sh --root
	$(CARGO) build --release --workspace --bins
	target/release/weir-testbed experiment

test: ## Run every test, those that need root too, and print the totals (root)
	@testbed/install.sh --root --python
	testbed/run-tests.sh

test-long: ## The same with a million random schedules and longer soaks (root, hours)
	@testbed/install.sh --root --python
	WEIR_SCHEDULES=1000000 WEIR_LONG=1 testbed/run-tests.sh

check: ## Check format, lints and documentation
	@testbed/install.sh
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps

bench: ## Run the benchmarks; those over network namespaces need root
	@testbed/install.sh --root
	$(CARGO) bench --package weir-benches
	$(CARGO) build --release --workspace --bins
	target/release/weir-testbed bench forward
	target/release/weir-testbed bench state
